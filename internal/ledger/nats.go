package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

// NATS keeps ledgers in a NATS key-value bucket. The times are of the instances'
// own clocks, so these should agree to within a fraction of a second.
type NATS struct {
	js     jetstream.JetStream
	config jetstream.KeyValueConfig

	mu     sync.Mutex
	bucket jetstream.KeyValue // guarded by mu
}

// NewNATS returns the store in the named bucket, which has this many replicas and
// is made when it is missing.
func NewNATS(js jetstream.JetStream, bucket string, replicas int) *NATS {
	return &NATS{js: js, config: jetstream.KeyValueConfig{
		Bucket: bucket, Description: "Rebound: what instances share of the limits of keys", History: 1,
		TTL: ttl, Storage: jetstream.MemoryStorage, Replicas: max(replicas, 1),
	}}
}

// Renew gives an instance its next lease of a key's limits. The error is that of
// NATS or of ctx; then it is not known whether the ledger has changed.
func (n *NATS) Renew(ctx context.Context, key string, c gate.Claim, s gate.Settings) (gate.Lease, error) {
	kv, err := n.open(ctx)
	if err != nil {
		return gate.Lease{}, err
	}
	name := strings.Replace(key, ":", ".", 1)
	for try := 1; ; try++ {
		before, revision, err := n.read(ctx, kv, name)
		if err != nil {
			return gate.Lease{}, fmt.Errorf("reading the ledger of %s in NATS: %w", key, err)
		}
		after, lease := before.Renew(c, s, time.Now().UTC())
		data, err := json.Marshal(after)
		if err != nil {
			return gate.Lease{}, fmt.Errorf("encoding the ledger of %s: %w", key, err)
		}
		_, err = kv.Update(ctx, name, data, revision)
		switch {
		case err == nil:
			return lease, nil
		case !streams.IsConflict(err):
			return gate.Lease{}, fmt.Errorf("writing the ledger of %s in NATS: %w", key, err)
		}
		if err := backOff(ctx, try); err != nil {
			return gate.Lease{}, err
		}
	}
}

// read asks the leader: another replica might not know of the last write.
func (n *NATS) read(ctx context.Context, kv jetstream.KeyValue, name string) (gate.Ledger, uint64, error) {
	m, err := streams.LeaderGet(ctx, n.js, "KV_"+kv.Bucket(), streams.LastBySubject("$KV."+kv.Bucket()+"."+name))
	if streams.IsGone(err) {
		return gate.NewLedger(), 0, nil
	}
	if err != nil {
		return gate.Ledger{}, 0, err
	}
	l, err := decode(m.Data)
	return l, m.Sequence, err
}

// open returns the bucket.
func (n *NATS) open(ctx context.Context) (jetstream.KeyValue, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.bucket != nil {
		return n.bucket, nil
	}
	kv, err := streams.Bucket(ctx, n.js, n.config)
	if err != nil {
		return nil, err
	}
	n.bucket = kv
	return kv, nil
}
