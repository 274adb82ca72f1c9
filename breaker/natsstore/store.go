// Package natsstore shares circuit breakers between instances in a NATS key-value bucket, for
// deployments without Redis. [Store] is its [breaker.Store].
package natsstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/internal/shrink"
	"github.com/rebound-mq/rebound/internal/streams"
)

// Store is a [breaker.Store] in a NATS key-value bucket. The instances run the state machine
// themselves and write by compare-and-set. They use the clock of the server that leads the
// bucket, as learned from its answers. It is safe for concurrent use.
//
// Reads go to the bucket's leader, and writes are compared with the newest revision.
type Store struct {
	conn       *nats.Conn
	name       string // of the bucket
	openBucket func(context.Context) (*streams.Expiring, error)
	keys       func() []string // nil for all

	mu     sync.Mutex // guards the fields below
	bucket *streams.Expiring
	cells  map[string]*cell
}

// cell is the last seen value of one key.
type cell struct {
	writing chan struct{} // a lock of size 1 for compare-and-set, so that only instances compete, not goroutines

	mu       sync.Mutex // guards the fields below
	circuit  breaker.Circuit
	revision uint64
}

// DefaultBucket is the bucket for breakers if none is named.
const DefaultBucket = "rebound_breakers"

// parallel is how many keys are read at once.
const parallel = 64

// New returns the store in the named bucket, [DefaultBucket] when empty. The bucket is created
// with this many replicas if it is missing. New does no I/O.
func New(js jetstream.JetStream, bucket string, replicas int) *Store {
	if bucket == "" {
		bucket = DefaultBucket
	}
	config := jetstream.KeyValueConfig{
		Bucket: bucket, Description: "Circuit breakers of Rebound", History: 1,
		TTL: 2 * breaker.HeldTTL, Storage: jetstream.FileStorage, Replicas: max(replicas, 1),
	}
	return &Store{
		conn: js.Conn(), name: bucket, cells: map[string]*cell{},
		openBucket: func(ctx context.Context) (*streams.Expiring, error) { return streams.ExpiringBucket(ctx, js, config) },
	}
}

// MostKeys is how many keys the server is asked to choose from a bucket.
const MostKeys = 100

// Existing returns the store in a bucket that others make, as Rebound's instances do. While the
// bucket is missing the store is out of reach. Only the circuits of keys are loaded and watched,
// unless these are more than [MostKeys]; see [breaker.Group.Learn] for one that is new. Existing
// does no I/O.
func Existing(js jetstream.JetStream, bucket string, keys func() []string) *Store {
	return &Store{conn: js.Conn(), name: bucket, cells: map[string]*cell{}, keys: keys, openBucket: streams.NewForeign(js, bucket).Open}
}

// String names the kind of the store.
func (*Store) String() string { return "nats" }

// Apply implements [breaker.Store].
func (store *Store) Apply(ctx context.Context, key string, e breaker.Event, now time.Time, s breaker.Settings) (breaker.Reply, error) {
	kv, err := store.open(ctx)
	if err != nil {
		return breaker.Reply{}, err
	}
	c := store.cell(key)
	select {
	case c.writing <- struct{}{}:
	case <-ctx.Done():
		return breaker.Reply{}, ctx.Err()
	}
	defer func() { <-c.writing }()
	r, err := c.apply(ctx, kv, key, e, now, s)
	if err != nil {
		return breaker.Reply{}, fmt.Errorf("breaker: %s of %s in NATS: %w", e.Kind, key, err)
	}
	return r, nil
}

// apply retries compare-and-set until it succeeds, fails or ctx ends. It starts from the last
// seen value, so that usually there is one round trip.
func (c *cell) apply(ctx context.Context, kv *streams.Expiring, key string, e breaker.Event, now time.Time, s breaker.Settings) (breaker.Reply, error) {
	for try, fresh := 1, false; ; try++ {
		circuit, revision := c.get(key)
		r := breaker.Apply(circuit, e, now, s)
		var pending bool
		if r.Written {
			err := c.put(ctx, kv, key, &r.Circuit, revision, e.TTL(&r.Circuit, &s))
			if !streams.IsConflict(err) {
				return r, err
			}
			pending = streams.IsPending(err)
		} else if fresh {
			return r, nil // the value seen is current
		}
		if pending || try > 2 {
			if err := streams.Pause(ctx, try); err != nil {
				return breaker.Reply{}, err
			}
		}
		if err := c.refresh(ctx, kv, key); err != nil {
			return breaker.Reply{}, err
		}
		fresh = true
	}
}

func (c *cell) put(ctx context.Context, kv *streams.Expiring, key string, circuit *breaker.Circuit, revision uint64, idle time.Duration) error {
	data, err := breaker.Encode(circuit)
	if err != nil {
		return err
	}
	if revision, err = kv.Replace(ctx, streams.BucketKey(key), data, revision, idle); err != nil {
		return err
	}
	c.set(*circuit, revision)
	return nil
}

// refresh reads the key from the bucket's leader.
func (c *cell) refresh(ctx context.Context, kv *streams.Expiring, key string) error {
	data, revision, err := kv.Latest(ctx, streams.BucketKey(key))
	circuit := breaker.NewCircuit(key)
	switch {
	case streams.IsGone(err):
	case err != nil:
		return fmt.Errorf("reading: %w", err)
	default:
		if circuit, err = breaker.Decode(data); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.circuit, c.revision = circuit, revision
	return nil
}

func (c *cell) get(key string) (breaker.Circuit, uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.revision == 0 {
		return breaker.NewCircuit(key), 0
	}
	return c.circuit.Clone(), c.revision
}

// set records a value seen, unless a later one was.
func (c *cell) set(circuit breaker.Circuit, revision uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if revision > c.revision {
		c.circuit, c.revision = circuit, revision
	}
}

// Load implements [breaker.Store].
func (store *Store) Load(ctx context.Context) ([]breaker.Circuit, error) {
	var circuits []breaker.Circuit
	err := store.follow(ctx, func(entry jetstream.KeyValueEntry) (bool, error) {
		if entry == nil {
			return true, nil // all entries were read
		}
		c, err := breaker.Decode(entry.Value())
		circuits = append(circuits, c)
		return false, err
	})
	if err != nil {
		return nil, fmt.Errorf("breaker: reading circuits in NATS: %w", err)
	}
	return circuits, nil
}

// Read implements [breaker.Store].
func (store *Store) Read(ctx context.Context, keys []string) ([]breaker.Circuit, error) {
	kv, err := store.open(ctx)
	if err != nil {
		return nil, err
	}
	read := make([]breaker.Circuit, len(keys))
	calls, ctx := errgroup.WithContext(ctx)
	calls.SetLimit(parallel)
	for i, key := range keys {
		calls.Go(func() error {
			entry, err := kv.Get(ctx, streams.BucketKey(key))
			if errors.Is(err, jetstream.ErrKeyNotFound) {
				return nil
			}
			if err == nil {
				read[i], err = breaker.Decode(entry.Value())
			}
			return err
		})
	}
	if err := calls.Wait(); err != nil {
		return nil, fmt.Errorf("breaker: reading circuits in NATS: %w", err)
	}
	return slices.DeleteFunc(read, func(c breaker.Circuit) bool { return c.ServiceKey == "" }), nil
}

// Forget implements [breaker.Store].
func (store *Store) Forget(keys []string) {
	store.mu.Lock()
	defer store.mu.Unlock()
	for _, key := range keys {
		delete(store.cells, key)
	}
	store.cells = shrink.Map(store.cells, len(keys))
}

// Watch implements [breaker.Store].
func (store *Store) Watch(ctx context.Context, ready func(), changed func(breaker.Circuit)) error {
	err := store.follow(ctx, func(entry jetstream.KeyValueEntry) (bool, error) {
		if entry == nil {
			ready()
			return false, nil
		}
		c, err := breaker.Decode(entry.Value())
		if err != nil {
			return false, err
		}
		store.cell(c.ServiceKey).set(c, entry.Revision())
		changed(c)
		return false, nil
	})
	if err != nil {
		return fmt.Errorf("breaker: watching circuits in NATS: %w", err)
	}
	return nil
}

// follow calls f with the entries of the bucket, then with nil, then with changes, until f has
// enough or fails, or ctx ends.
func (store *Store) follow(ctx context.Context, f func(jetstream.KeyValueEntry) (enough bool, err error)) error {
	kv, err := store.open(ctx)
	if err != nil {
		return err
	}
	w, err := store.watch(ctx, kv)
	if err != nil {
		return err
	}
	return streams.Follow(ctx, w, f)
}

func (store *Store) watch(ctx context.Context, kv jetstream.KeyValue) (jetstream.KeyWatcher, error) {
	if store.keys == nil {
		return kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	}
	used := store.keys()
	if len(used) > MostKeys {
		return kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	}
	keys := []string{"-"} // which none of a breaker is, because no key at all would mean all
	for _, key := range used {
		keys = append(keys, streams.BucketKey(key))
	}
	return kv.WatchFiltered(ctx, keys, jetstream.IgnoreDeletes())
}

// Ping implements [breaker.Store]. The epoch is the creation time of the bucket, the clock that
// of its leader.
func (store *Store) Ping(ctx context.Context) (breaker.Pulse, error) {
	kv, err := store.open(ctx)
	if err != nil {
		return breaker.Pulse{}, err
	}
	status, err := bucketStatus(ctx, kv)
	if errors.Is(err, jetstream.ErrBucketNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		store.forget()
		if kv, err = store.open(ctx); err == nil {
			status, err = bucketStatus(ctx, kv)
		}
	}
	if err != nil {
		return breaker.Pulse{}, fmt.Errorf("breaker: asking for the bucket in NATS: %w", err)
	}
	b, ok := status.(*jetstream.KeyValueBucketStatus)
	if !ok {
		return breaker.Pulse{}, fmt.Errorf("breaker: the bucket %s is of an unknown kind, %T", store.name, status)
	}
	info := b.StreamInfo()
	return breaker.Pulse{Epoch: info.Created.UTC().Format(time.RFC3339Nano), Now: info.TimeStamp}, nil
}

func bucketStatus(ctx context.Context, kv jetstream.KeyValue) (status jetstream.KeyValueStatus, err error) {
	err = streams.UntilAnswered(ctx, func(ctx context.Context) error {
		status, err = kv.Status(ctx)
		return err
	})
	return status, err
}

// errDisconnected avoids waiting for a server that is known to be away.
var errDisconnected = errors.New("breaker: not connected to NATS")

// open returns the bucket.
func (store *Store) open(ctx context.Context) (*streams.Expiring, error) {
	if !store.conn.IsConnected() {
		return nil, errDisconnected
	}
	store.mu.Lock()
	defer store.mu.Unlock()
	if store.bucket != nil {
		return store.bucket, nil
	}
	kv, err := store.openBucket(ctx)
	if err != nil {
		return nil, fmt.Errorf("breaker: %w", err)
	}
	store.bucket = kv
	return kv, nil
}

// forget drops the bucket, which is gone, and everything seen of it.
func (store *Store) forget() {
	store.mu.Lock()
	defer store.mu.Unlock()
	store.bucket = nil
	clear(store.cells)
}

func (store *Store) cell(key string) *cell {
	store.mu.Lock()
	defer store.mu.Unlock()
	c, ok := store.cells[key]
	if !ok {
		c = &cell{writing: make(chan struct{}, 1)}
		store.cells[key] = c
	}
	return c
}
