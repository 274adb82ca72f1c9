package lanes

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/semaphore"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/notify"
	"github.com/rebound-mq/rebound/internal/opstore"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

// Keys are the keys that have lanes, or may have some, as far as this instance knows. A
// bucket names those with held operations, so that every other instance finds them. It is
// safe for concurrent use.
type Keys struct {
	js       jetstream.JetStream
	reading  jetstream.JetStream
	subjects events.Subjects
	streams  events.Streams
	log      *slog.Logger
	markers  *markers
	// forgetAfter is how long a key must have been idle to be forgotten.
	forgetAfter time.Duration

	wake notify.Signal // set when there is something to check
	mu   sync.Mutex
	keys map[string]*keyLanes // by key; guarded by mu
}

// keyLanes are the lanes of one key.
type keyLanes struct {
	service, operation string
	marker             marker

	// The fields below are guarded by Keys.mu.
	look       bool      // there may be something to let out
	next       time.Time // when to ask the gate again; zero means when woken
	releasing  bool      // a goroutine is letting its operations out
	recheck    bool      // something was held since the lanes were last rechecked
	used       time.Time // when the key was last used
	counted    time.Time // when it was last counted although its gate is shut
	departures departures

	// The fields below belong to the releasing goroutine.
	turns  gate.RoundRobin
	flow   outflow
	parked *backlog // what may be let out early; nil if that is not known
}

func (k *keyLanes) key() string { return events.Key(k.service, k.operation) }

// KeysConfig configures [Keys].
type KeysConfig struct {
	// Prefix is the first token of every subject, [events.DefaultPrefix] when empty.
	Prefix string
	// Reading is JetStream on a connection for bulk reads.
	Reading jetstream.JetStream
	// Replicas is how many servers keep the bucket, 1 when zero.
	Replicas int
	// ForgetAfter is how long a key must have been idle to be forgotten.
	ForgetAfter time.Duration
	// Rest is how long a marker must be unchanged to be removed: when zero, two minutes or
	// ForgetAfter, whichever is less.
	Rest time.Duration
	Log  *slog.Logger
}

// bucket describes the bucket that names the keys with lanes.
func (c KeysConfig) bucket() jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{
		Bucket: events.Streams{Prefix: c.Prefix}.LanesBucket(), Description: "Rebound: the keys that have lanes", Storage: jetstream.FileStorage,
		Replicas: max(c.Replicas, 1),
	}
}

// OpenKeys opens the bucket that names the keys with lanes, or makes it if it is missing.
func OpenKeys(ctx context.Context, js jetstream.JetStream, persister *opstore.Persister, config KeysConfig) (*Keys, error) {
	bucket, err := streams.Bucket(ctx, js, config.bucket())
	if err != nil {
		return nil, err
	}
	return NewKeys(js, bucket, persister, config), nil
}

// NewKeys returns the keys that a bucket names. persister repeats writes to the bucket.
func NewKeys(js jetstream.JetStream, bucket jetstream.KeyValue, persister *opstore.Persister, config KeysConfig) *Keys {
	return &Keys{
		js: js, reading: config.Reading, subjects: events.Subjects{Prefix: config.Prefix}, streams: events.Streams{Prefix: config.Prefix}, log: config.Log,
		markers: newMarkers(js, bucket, persister, config), forgetAfter: config.ForgetAfter, wake: notify.NewSignal(), keys: make(map[string]*keyLanes),
	}
}

var _ opstore.Lanes = (*Keys)(nil)

// Reopen makes the bucket anew if it is gone.
func (s *Keys) Reopen(ctx context.Context) error { return s.markers.reopen(ctx) }

// of returns the lanes of a key.
func (s *Keys) of(service, operation string) *keyLanes {
	key := events.Key(service, operation)
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[key]
	if k == nil {
		k = &keyLanes{service: service, operation: operation, marker: marker{writing: semaphore.NewWeighted(1)}}
		s.keys[key] = k
	}
	k.used = time.Now()
	return k
}

// Mark implements [opstore.Lanes].
func (s *Keys) Mark(ctx context.Context, service, operation string) error {
	return s.markers.put(ctx, s.of(service, operation))
}

// Check implements [opstore.Lanes].
func (s *Keys) Check(service, operation string) {
	k := s.of(service, operation)
	s.mu.Lock()
	k.look, k.recheck = true, true
	s.mu.Unlock()
	s.wake.Set()
}

// Changed makes the lanes of a key be checked if it is known to have some. It does not
// block.
func (s *Keys) Changed(key string) {
	s.mu.Lock()
	k := s.keys[key]
	if k != nil {
		k.look = true
	}
	s.mu.Unlock()
	if k != nil {
		s.wake.Set()
	}
}

// BreakerChanged makes the lanes of a key be checked if its breaker closed, even if it has
// none: operations that were parked during the outage may follow early.
func (s *Keys) BreakerChanged(c breaker.Change) {
	if c.To != breaker.Closed {
		return
	}
	if service, operation, err := events.SplitKey(c.Key); err == nil {
		s.Check(service, operation)
	}
}
