// Package redisledger shares the limits of keys between instances in Redis. [Store] is its
// [ledger.Store].
package redisledger

import (
	"context"
	_ "embed"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rebound-mq/rebound/internal/ledger"
	"github.com/rebound-mq/rebound/internal/redisconn"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

// Store keeps ledgers in Redis 5 or newer: a single node, Sentinel or a Cluster. Times are
// by Redis's own clock. Each ledger is one key with a TTL, which spreads them over a
// Cluster.
//
// A Redis that is emptied, or a failover that loses the last writes, loses ledgers; the
// instances rebuild them from memory, see [gate.Ledger].
type Store struct {
	client redis.UniversalClient
	prefix string
}

var (
	//go:embed read.lua
	readLua string
	//go:embed replace.lua
	replaceLua string

	readScript    = redis.NewScript(readLua)
	replaceScript = redis.NewScript(replaceLua)
)

// DefaultPrefix is the default beginning of the names of ledgers in Redis.
const DefaultPrefix = "rebound:ledger:"

// PrefixOf returns the beginning of the names of ledgers of the deployment with a subject
// prefix.
func PrefixOf(subjects string) string { return redisconn.Prefix(subjects, "ledger") }

// New returns the store behind client, which must be made from options of
// [redisconn.Options]. All names in Redis begin with prefix, [DefaultPrefix] when it is
// empty. The caller closes the client.
func New(client redis.UniversalClient, prefix string) *Store {
	if prefix == "" {
		prefix = DefaultPrefix
	}
	return &Store{client: client, prefix: prefix}
}

// String names the kind of the store.
func (*Store) String() string { return "redis" }

// Renew gives an instance its next lease of a key's limits. After an error, which is
// Redis's or ctx's, it is not known whether the ledger has changed.
func (r *Store) Renew(ctx context.Context, key string, c gate.Claim, s gate.Settings) (gate.Lease, error) {
	name := r.prefix + "{" + key + "}"
	var text string
	read := func() (l gate.Ledger, now time.Time, err error) {
		if text, now, err = r.read(ctx, name); err != nil {
			return l, now, err
		}
		l, err = ledger.Decode([]byte(text))
		return l, now, err
	}
	replace := func(data []byte, keep time.Duration) (bool, error) {
		return replaceScript.Run(ctx, r.client, []string{name}, text, data, keep.Milliseconds()).Bool()
	}
	l := ledger.Stored{Store: "Redis", Key: key, Read: read, Replace: replace}
	return l.Renew(ctx, c, s)
}

// Forget does nothing: nothing is kept in memory.
func (r *Store) Forget([]string) {}

// read returns the current ledger, empty if there is none, and the time.
func (r *Store) read(ctx context.Context, name string) (text string, now time.Time, err error) {
	answer, err := readScript.Run(ctx, r.client, []string{name}).Slice()
	if err != nil {
		return "", time.Time{}, err
	}
	var seconds, micros int64
	if len(answer) == 3 {
		text, _ = answer[0].(string)
		seconds, err = number(answer[1])
		if err == nil {
			micros, err = number(answer[2])
		}
	} else {
		err = fmt.Errorf("the answer has %d parts, want 3", len(answer))
	}
	return text, time.Unix(seconds, micros*1000).UTC(), err
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
