package adoption

import (
	"context"
	"log/slog"
	"slices"
	"sync"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/streams"
)

// Register knows the adopted consumers as the bucket last listed them, and the ledger once
// it is needed. It is safe for concurrent use.
type Register struct {
	config RegisterConfig
	bucket *Bucket
	log    *slog.Logger

	mu     sync.Mutex // guards the fields below
	list   []Adoption // nil until the bucket has listed them
	opened *Ledger    // nil until needed
}

// RegisterConfig configures a [Register].
type RegisterConfig struct {
	JetStream jetstream.JetStream
	Prefix    string
	Replicas  int
	Log       *slog.Logger
}

// NewRegister returns a register of the adoptions in bucket. It is empty until a
// [Follower] runs.
func NewRegister(bucket *Bucket, config RegisterConfig) *Register {
	return &Register{config: config, bucket: bucket, log: config.Log}
}

// Any reports whether a consumer is adopted.
func (r *Register) Any() bool { return len(r.latest()) > 0 }

// latest returns the list, nil when the bucket has not listed the adoptions yet.
func (r *Register) latest() []Adoption {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.list
}

// replace replaces the list by one from the bucket.
func (r *Register) replace(list []Adoption) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = list
}

// find returns the adoption of a consumer, or [ErrNotAdopted]. It asks the bucket if the
// list does not have it yet.
func (r *Register) find(ctx context.Context, stream, consumer string) (Adoption, error) {
	list := r.latest()
	if i := slices.IndexFunc(list, func(ad Adoption) bool { return ad.Stream == stream && ad.Consumer == consumer }); i >= 0 {
		return list[i], nil
	}
	ctx, cancel := context.WithTimeout(ctx, streams.CallTimeout)
	defer cancel()
	return r.bucket.Get(ctx, stream, consumer)
}

// ledger returns the ledger and makes it if there is none.
func (r *Register) ledger(ctx context.Context) (*Ledger, error) {
	r.mu.Lock()
	opened := r.opened
	r.mu.Unlock()
	if opened != nil {
		return opened, nil
	}
	opened, err := EnsureLedger(ctx, r.config.JetStream, r.config.Prefix, r.config.Replicas)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opened = opened
	return opened, nil
}
