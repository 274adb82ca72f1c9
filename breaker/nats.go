package breaker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/rebound-mq/rebound/internal/shrink"
	"github.com/rebound-mq/rebound/internal/streams"
)

// NATS is a [Store] in a NATS key-value bucket, for several instances that have
// NATS alone. The instances run [Step] themselves and compare and set. They go by
// the clock of the server that leads the bucket, which is learnt from its answers.
//
// Reads go to the bucket's leader, and what is written is always compared with the
// newest.
type NATS struct {
	conn   *nats.Conn
	js     jetstream.JetStream
	config jetstream.KeyValueConfig

	mu     sync.Mutex // guards what follows
	bucket *streams.Expiring
	cells  map[string]*cell
}

// cell is what was last seen of one key.
type cell struct {
	writing chan struct{} // holds a token during a compare-and-set, so that instances compete and not goroutines

	mu       sync.Mutex // guards what follows
	circuit  Circuit
	revision uint64
}

// DefaultBucket is the bucket that Rebound makes for its breakers.
const DefaultBucket = "rebound_breakers"

// NewNATS returns the store in the named bucket, [DefaultBucket] when it is
// empty, which has this many replicas and is made when it is missing.
func NewNATS(js jetstream.JetStream, bucket string, replicas int) *NATS {
	if bucket == "" {
		bucket = DefaultBucket
	}
	return &NATS{
		conn: js.Conn(), js: js, cells: map[string]*cell{},
		config: jetstream.KeyValueConfig{
			Bucket: bucket, Description: "Circuit breakers of Rebound", History: 1,
			TTL: 2 * holdTTL, Storage: jetstream.FileStorage, Replicas: max(replicas, 1),
		},
	}
}

// Apply implements [Store].
func (n *NATS) Apply(ctx context.Context, key string, e Event, now time.Time, s Settings) (Reply, error) {
	kv, err := n.open(ctx)
	if err != nil {
		return Reply{}, err
	}
	c := n.cell(key)
	select {
	case c.writing <- struct{}{}:
	case <-ctx.Done():
		return Reply{}, ctx.Err()
	}
	defer func() { <-c.writing }()
	r, err := c.apply(ctx, kv, key, e, now, s)
	if err != nil {
		return Reply{}, fmt.Errorf("breaker: %s of %s in NATS: %w", e.Kind, key, err)
	}
	return r, nil
}

// apply compares and sets until nobody else was faster, or ctx ends. It begins with
// what was last seen, so that as a rule there is one round trip.
func (c *cell) apply(ctx context.Context, kv *streams.Expiring, key string, e Event, now time.Time, s Settings) (Reply, error) {
	for try, fresh := 1, false; ; try++ {
		circuit, revision := c.get(key)
		r := apply(circuit, e, now, s)
		var pending bool
		if r.Written {
			err := c.put(ctx, kv, key, &r.Circuit, revision, e.idle(&r.Circuit, &s))
			if !streams.IsConflict(err) {
				return r, err
			}
			pending = streams.IsPending(err)
		} else if fresh {
			return r, nil // what was seen is what there is
		}
		if pending || try > 2 {
			if err := streams.Pause(ctx, try); err != nil {
				return Reply{}, err
			}
		}
		if err := c.refresh(ctx, kv, key); err != nil {
			return Reply{}, err
		}
		fresh = true
	}
}

func (c *cell) put(ctx context.Context, kv *streams.Expiring, key string, circuit *Circuit, revision uint64, idle time.Duration) error {
	data, err := encode(circuit)
	if err != nil {
		return err
	}
	if revision, err = kv.Replace(ctx, natsKey(key), data, revision, idle); err != nil {
		return err
	}
	c.set(*circuit, revision)
	return nil
}

// refresh reads the key from the bucket's leader.
func (c *cell) refresh(ctx context.Context, kv *streams.Expiring, key string) error {
	data, revision, err := kv.Latest(ctx, natsKey(key))
	circuit := NewCircuit(key)
	switch {
	case streams.IsGone(err):
	case err != nil:
		return fmt.Errorf("reading: %w", err)
	default:
		if circuit, err = decode(data); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.circuit, c.revision = circuit, revision
	return nil
}

func (c *cell) get(key string) (Circuit, uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.revision == 0 {
		return NewCircuit(key), 0
	}
	return c.circuit.clone(), c.revision
}

// set notes what was seen, unless something later was.
func (c *cell) set(circuit Circuit, revision uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if revision > c.revision {
		c.circuit, c.revision = circuit, revision
	}
}

// Load implements [Store].
func (n *NATS) Load(ctx context.Context) ([]Circuit, error) {
	var circuits []Circuit
	err := n.follow(ctx, func(entry jetstream.KeyValueEntry) (bool, error) {
		if entry == nil {
			return true, nil // all that there is has been seen
		}
		c, err := decode(entry.Value())
		circuits = append(circuits, c)
		return false, err
	})
	if err != nil {
		return nil, fmt.Errorf("breaker: reading circuits in NATS: %w", err)
	}
	return circuits, nil
}

// Read implements [Store].
func (n *NATS) Read(ctx context.Context, keys []string) ([]Circuit, error) {
	kv, err := n.open(ctx)
	if err != nil {
		return nil, err
	}
	read := make([]Circuit, len(keys))
	calls, ctx := errgroup.WithContext(ctx)
	calls.SetLimit(parallel)
	for i, key := range keys {
		calls.Go(func() error {
			entry, err := kv.Get(ctx, natsKey(key))
			if errors.Is(err, jetstream.ErrKeyNotFound) {
				return nil
			}
			if err == nil {
				read[i], err = decode(entry.Value())
			}
			return err
		})
	}
	if err := calls.Wait(); err != nil {
		return nil, fmt.Errorf("breaker: reading circuits in NATS: %w", err)
	}
	return slices.DeleteFunc(read, func(c Circuit) bool { return c.ServiceKey == "" }), nil
}

// Forget implements [Store].
func (n *NATS) Forget(keys []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, key := range keys {
		delete(n.cells, key)
	}
	n.cells = shrink.Map(n.cells, len(keys))
}

// Watch implements [Store].
func (n *NATS) Watch(ctx context.Context, ready func(), changed func(Circuit)) error {
	err := n.follow(ctx, func(entry jetstream.KeyValueEntry) (bool, error) {
		if entry == nil {
			ready()
			return false, nil
		}
		c, err := decode(entry.Value())
		if err != nil {
			return false, err
		}
		n.cell(c.ServiceKey).set(c, entry.Revision())
		changed(c)
		return false, nil
	})
	if err != nil {
		return fmt.Errorf("breaker: watching circuits in NATS: %w", err)
	}
	return nil
}

// errWatchEnded is the error of a watcher that the connection ended.
var errWatchEnded = errors.New("the watcher ended")

// follow calls f with what is in the bucket, then with nil, then with what
// changes, until f has enough or fails, or ctx ends.
func (n *NATS) follow(ctx context.Context, f func(jetstream.KeyValueEntry) (enough bool, err error)) error {
	kv, err := n.open(ctx)
	if err != nil {
		return err
	}
	w, err := kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return err
	}
	defer func() {
		_ = w.Stop() // it fails when the connection or the context ended it already
		for range w.Updates() {
			// Its goroutine may wait to deliver.
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case entry, ok := <-w.Updates():
			if !ok {
				return errWatchEnded
			}
			if enough, err := f(entry); enough || err != nil {
				return err
			}
		}
	}
}

// Ping implements [Store]. The epoch is when the bucket was made, the clock that of its
// leader.
func (n *NATS) Ping(ctx context.Context) (Pulse, error) {
	kv, err := n.open(ctx)
	if err != nil {
		return Pulse{}, err
	}
	status, err := bucketStatus(ctx, kv)
	if errors.Is(err, jetstream.ErrBucketNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		n.forget()
		if kv, err = n.open(ctx); err == nil {
			status, err = bucketStatus(ctx, kv)
		}
	}
	if err != nil {
		return Pulse{}, fmt.Errorf("breaker: asking for the bucket in NATS: %w", err)
	}
	b, ok := status.(*jetstream.KeyValueBucketStatus)
	if !ok {
		return Pulse{}, fmt.Errorf("breaker: the bucket %s is of an unknown kind, %T", n.config.Bucket, status)
	}
	info := b.StreamInfo()
	return Pulse{Epoch: info.Created.UTC().Format(time.RFC3339Nano), Now: info.TimeStamp}, nil
}

func bucketStatus(ctx context.Context, kv jetstream.KeyValue) (status jetstream.KeyValueStatus, err error) {
	err = streams.UntilAnswered(ctx, func(ctx context.Context) error {
		status, err = kv.Status(ctx)
		return err
	})
	return status, err
}

// errDisconnected saves waiting for a server that is known not to be there.
var errDisconnected = errors.New("breaker: not connected to NATS")

// open returns the bucket and makes it when it is missing.
func (n *NATS) open(ctx context.Context) (*streams.Expiring, error) {
	if !n.conn.IsConnected() {
		return nil, errDisconnected
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.bucket != nil {
		return n.bucket, nil
	}
	kv, err := streams.ExpiringBucket(ctx, n.js, n.config)
	if err != nil {
		return nil, fmt.Errorf("breaker: %w", err)
	}
	n.bucket = kv
	return kv, nil
}

// forget drops the bucket, which is gone, and all that was seen of it.
func (n *NATS) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.bucket = nil
	clear(n.cells)
}

func (n *NATS) cell(key string) *cell {
	n.mu.Lock()
	defer n.mu.Unlock()
	c, ok := n.cells[key]
	if !ok {
		c = &cell{writing: make(chan struct{}, 1)}
		n.cells[key] = c
	}
	return c
}

// natsKey spells key in the characters that a bucket allows: the parts of
// service:operation become two tokens, and what no name has is written in hex.
func natsKey(key string) string {
	var b strings.Builder
	for i := 0; i < len(key); i++ {
		switch c := key[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
			b.WriteByte(c)
		case c == ':' && i > 0 && i < len(key)-1 && key[i-1] != ':':
			b.WriteByte('.')
		default:
			fmt.Fprintf(&b, "=%02X", c)
		}
	}
	return b.String()
}
