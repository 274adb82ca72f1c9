// Package ledger shares the limits of keys between instances. [Leases] keep one instance's
// shares by renewing them at a [Store] of ledgers: [Redis], or [NATS] with a key-value
// bucket. [gate.Ledger] documents what a ledger is and how it is divided.
package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

const (
	// ttl is how long an unwritten ledger is kept at most, which is longer than its windows.
	ttl = 2 * time.Hour
	// slack is how much longer a ledger is kept once it is empty, because clocks differ.
	slack = 10 * time.Second
)

// stored is the ledger of a key in a store.
type stored struct {
	store, key string // names in errors
	// read returns the current ledger and the store's time.
	read func() (gate.Ledger, time.Time, error)
	// replace stores another ledger in its place, with a TTL of keep. done is false if
	// somebody else was faster.
	replace func(data []byte, keep time.Duration) (done bool, err error)
}

// renew gives an instance its next lease of the key's limits.
func (l *stored) renew(ctx context.Context, c gate.Claim, s gate.Settings) (gate.Lease, error) {
	for try := 1; ; try++ {
		before, now, err := l.read()
		if err != nil {
			return gate.Lease{}, fmt.Errorf("reading the ledger of %s in %s: %w", l.key, l.store, err)
		}
		after, lease := before.Renew(c, s, now)
		data, err := json.Marshal(after)
		if err != nil {
			return gate.Lease{}, fmt.Errorf("encoding the ledger of %s: %w", l.key, err)
		}
		keep := min(after.Empties(now).Sub(now)+slack, ttl)
		switch done, err := l.replace(data, keep); {
		case err != nil:
			return gate.Lease{}, fmt.Errorf("writing the ledger of %s in %s: %w", l.key, l.store, err)
		case done:
			return lease, nil
		}
		if err := streams.Pause(ctx, min(try, 10)); err != nil {
			return gate.Lease{}, err
		}
	}
}

// decode reads a stored ledger; empty data is a new one.
func decode(data []byte) (gate.Ledger, error) {
	if len(data) == 0 {
		return gate.NewLedger(), nil
	}
	var l gate.Ledger
	if err := json.Unmarshal(data, &l); err != nil {
		return l, fmt.Errorf("decoding: %w", err)
	}
	if err := l.Check(); err != nil {
		return l, fmt.Errorf("decoding: %w", err)
	}
	return l, nil
}

func number(v any) (int64, error) {
	switch v := v.(type) {
	case int64:
		return v, nil
	case string:
		return strconv.ParseInt(v, 10, 64)
	}
	return 0, fmt.Errorf("%T is no number", v)
}
