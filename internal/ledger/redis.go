package ledger

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rebound-mq/rebound/scheduler/gate"
)

// Redis keeps ledgers in Redis 5 or newer: a single node, Sentinel or a Cluster. Times are
// by Redis's own clock. Each ledger is one key with a TTL, which spreads them over a
// Cluster.
//
// A Redis that is emptied, or a failover that loses the last writes, loses ledgers; the
// instances rebuild them from memory, see [gate.Ledger].
type Redis struct {
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

// NewRedis returns the store behind client, which must be made from options of
// [redisconn.Options]. All names in Redis begin with prefix, [DefaultPrefix] when it is
// empty. The caller closes the client.
func NewRedis(client redis.UniversalClient, prefix string) *Redis {
	if prefix == "" {
		prefix = DefaultPrefix
	}
	return &Redis{client: client, prefix: prefix}
}

// String names the kind of the store.
func (*Redis) String() string { return "redis" }

// Renew gives an instance its next lease of a key's limits. After an error, which is
// Redis's or ctx's, it is not known whether the ledger has changed.
func (r *Redis) Renew(ctx context.Context, key string, c gate.Claim, s gate.Settings) (gate.Lease, error) {
	name := r.prefix + "{" + key + "}"
	var text string
	read := func() (ledger gate.Ledger, now time.Time, err error) {
		if text, now, err = r.read(ctx, name); err != nil {
			return ledger, now, err
		}
		ledger, err = decode([]byte(text))
		return ledger, now, err
	}
	replace := func(data []byte, keep time.Duration) (bool, error) {
		return replaceScript.Run(ctx, r.client, []string{name}, text, data, keep.Milliseconds()).Bool()
	}
	l := stored{store: "Redis", key: key, read: read, replace: replace}
	return l.renew(ctx, c, s)
}

// Forget does nothing: nothing is kept in memory.
func (r *Redis) Forget([]string) {}

// read returns the current ledger, empty if there is none, and the time.
func (r *Redis) read(ctx context.Context, name string) (text string, now time.Time, err error) {
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
