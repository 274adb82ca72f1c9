// Package ledger shares the limits of keys between instances. [Leases] keep one instance's
// shares by renewing them at a [Store] of ledgers: [NATS] with a key-value bucket, or that of
// package redisledger. [gate.Ledger] documents what a ledger is and how it is divided.
package ledger

import (
	"context"
	"encoding/json"
	"fmt"
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

// Stored is the ledger of a key in a store.
type Stored struct {
	Store, Key string // names in errors
	// Read returns the current ledger and the store's time.
	Read func() (gate.Ledger, time.Time, error)
	// Replace stores another ledger in its place, with a TTL of keep. done is false if
	// somebody else was faster.
	Replace func(data []byte, keep time.Duration) (done bool, err error)
}

// Renew gives an instance its next lease of the key's limits.
func (l *Stored) Renew(ctx context.Context, c gate.Claim, s gate.Settings) (gate.Lease, error) {
	for try := 1; ; try++ {
		before, now, err := l.Read()
		if err != nil {
			return gate.Lease{}, fmt.Errorf("reading the ledger of %s in %s: %w", l.Key, l.Store, err)
		}
		after, lease := before.Renew(c, s, now)
		data, err := json.Marshal(after)
		if err != nil {
			return gate.Lease{}, fmt.Errorf("encoding the ledger of %s: %w", l.Key, err)
		}
		keep := min(after.Empties(now).Sub(now)+slack, ttl)
		switch done, err := l.Replace(data, keep); {
		case err != nil:
			return gate.Lease{}, fmt.Errorf("writing the ledger of %s in %s: %w", l.Key, l.Store, err)
		case done:
			return lease, nil
		}
		if err := streams.Pause(ctx, min(try, 10)); err != nil {
			return gate.Lease{}, err
		}
	}
}

// Decode reads a stored ledger; empty data is a new one.
func Decode(data []byte) (gate.Ledger, error) {
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
