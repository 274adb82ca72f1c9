package ledger

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

// NATS keeps ledgers in a NATS key-value bucket. The times are of the instances'
// clocks, so these should agree to within a fraction of a second.
type NATS struct {
	js     jetstream.JetStream
	config jetstream.KeyValueConfig
	now    func() time.Time

	mu     sync.Mutex
	bucket jetstream.KeyValue // guarded by mu
}

// NewNATS returns the store in the named bucket, which has this many replicas and
// is made when it is missing. It goes by the clock now.
func NewNATS(js jetstream.JetStream, bucket string, replicas int, now func() time.Time) *NATS {
	return &NATS{js: js, now: now, config: jetstream.KeyValueConfig{
		Bucket: bucket, Description: "Rebound: what instances share of the limits of keys", History: 1,
		TTL: ttl, Storage: jetstream.MemoryStorage, Replicas: max(replicas, 1),
	}}
}

// Join opens the bucket, which it makes when it is missing, so that the next lease
// need not wait for it.
func (n *NATS) Join(ctx context.Context) error {
	n.forget()
	_, err := n.open(ctx)
	return err
}

// Renew gives an instance its next lease of a key's limits. The error is that of
// NATS or of ctx; then it is not known whether the ledger has changed.
func (n *NATS) Renew(ctx context.Context, key string, c gate.Claim, s gate.Settings) (gate.Lease, error) {
	kv, err := n.open(ctx)
	if err != nil {
		return gate.Lease{}, err
	}
	name := strings.Replace(key, ":", ".", 1)
	var revision uint64
	read := func() (ledger gate.Ledger, now time.Time, err error) {
		ledger, revision, err = n.read(ctx, kv, name)
		return ledger, n.now().UTC(), err
	}
	replace := func(data []byte) (bool, error) {
		_, err := kv.Update(ctx, name, data, revision)
		if streams.IsConflict(err) {
			return false, nil
		}
		return err == nil, err
	}
	lease, err := renew(ctx, "NATS", key, c, s, read, replace)
	if err != nil && ctx.Err() == nil {
		n.forget()
	}
	return lease, err
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

// forget has the bucket opened anew: it is in memory, so it goes with its server.
func (n *NATS) forget() {
	n.mu.Lock()
	n.bucket = nil
	n.mu.Unlock()
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
