package ledger

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/shrink"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

// NATS keeps ledgers in a NATS key-value bucket. Times are by the clock of the server that
// leads the bucket, which is measured by its answers.
type NATS struct {
	js         jetstream.JetStream
	openBucket func(context.Context) (*streams.Expiring, error)
	clock      streams.Clock

	mu     sync.Mutex // guards the fields below
	bucket *streams.Expiring
	seen   map[string]version // by key
}

// version is the ledger as this instance last wrote or read it. It is usually still
// current when the instance renews, which saves reading it.
type version struct {
	data     []byte
	revision uint64
}

// NewNATS returns the store in the named bucket. A missing bucket is made, with this many
// replicas.
func NewNATS(js jetstream.JetStream, bucket string, replicas int) *NATS {
	config := jetstream.KeyValueConfig{
		Bucket: bucket, Description: "Rebound: what instances share of the limits of keys", History: 1,
		TTL: ttl, Storage: jetstream.MemoryStorage, Replicas: max(replicas, 1),
	}
	return &NATS{js: js, seen: make(map[string]version), openBucket: func(ctx context.Context) (*streams.Expiring, error) {
		return streams.ExpiringBucket(ctx, js, config)
	}}
}

// ExistingNATS returns the store in a bucket that others make. While the bucket is missing the
// store is out of reach.
func ExistingNATS(js jetstream.JetStream, bucket string) *NATS {
	return &NATS{js: js, seen: make(map[string]version), openBucket: streams.NewForeign(js, bucket).Open}
}

// String names the kind of the store.
func (*NATS) String() string { return "nats" }

// Join opens the bucket anew, so that the next lease need not wait for it.
func (n *NATS) Join(ctx context.Context) error {
	n.forget()
	_, err := n.open(ctx)
	return err
}

// Renew gives an instance its next lease of a key's limits. After an error, which is
// NATS's or ctx's, it is not known whether the ledger has changed.
func (n *NATS) Renew(ctx context.Context, key string, c gate.Claim, s gate.Settings) (gate.Lease, error) {
	kv, err := n.open(ctx)
	if err != nil {
		return gate.Lease{}, err
	}
	name := streams.BucketKey(key)
	// The last version may be stale or missing; then the write is refused.
	v, fresh := n.last(name), false
	read := func() (l gate.Ledger, now time.Time, err error) {
		if fresh {
			if v, err = n.read(ctx, kv, name); err != nil {
				return l, now, err
			}
		}
		l, err = Decode(v.data)
		return l, n.clock.Now(ctx, n.js, "KV_"+kv.Bucket()), err
	}
	replace := func(data []byte, keep time.Duration) (bool, error) {
		revision, err := kv.Replace(ctx, name, data, v.revision, keep)
		if streams.IsConflict(err) {
			fresh = true
			return false, nil
		}
		if err == nil {
			n.saw(name, version{data: data, revision: revision})
		}
		return err == nil, err
	}
	l := Stored{Store: "NATS", Key: key, Read: read, Replace: replace}
	lease, err := l.Renew(ctx, c, s)
	if err != nil && ctx.Err() == nil {
		n.forget()
	}
	return lease, err
}

// last returns the version last seen, or the zero value.
func (n *NATS) last(name string) version {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.seen[name]
}

func (n *NATS) saw(name string, v version) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen[name] = v
}

// Forget drops what is remembered of unused keys.
func (n *NATS) Forget(keys []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, key := range keys {
		delete(n.seen, streams.BucketKey(key))
	}
	n.seen = shrink.Map(n.seen, len(keys))
}

// read asks the leader: another replica might not have the last write yet.
func (n *NATS) read(ctx context.Context, kv *streams.Expiring, name string) (version, error) {
	data, revision, err := kv.Latest(ctx, name)
	if err != nil && !streams.IsGone(err) {
		return version{}, err
	}
	return version{data: data, revision: revision}, nil
}

// forget makes the next call open the bucket anew: a bucket in memory is lost with its
// server.
func (n *NATS) forget() {
	n.mu.Lock()
	n.bucket = nil
	clear(n.seen)
	n.mu.Unlock()
}

// open returns the bucket.
func (n *NATS) open(ctx context.Context) (*streams.Expiring, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.bucket != nil {
		return n.bucket, nil
	}
	kv, err := n.openBucket(ctx)
	if err != nil {
		return nil, err
	}
	n.bucket = kv
	return kv, nil
}
