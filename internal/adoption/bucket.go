package adoption

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/streams"
)

var (
	// ErrNoBucket says that no service has run.
	ErrNoBucket = errors.New("there is no bucket of adopted consumers")
	// ErrNotAdopted says that a consumer is not adopted.
	ErrNotAdopted = errors.New("the consumer is not adopted")
)

// Bucket keeps the adopted consumers of one prefix. It is safe for concurrent use.
type Bucket struct {
	kv jetstream.KeyValue
	js jetstream.JetStream
}

// BucketName returns the name of the bucket under a subject prefix, empty for
// [events.DefaultPrefix]. The bucket's stream is named KV_ and this.
func BucketName(prefix string) string {
	return events.Streams{Prefix: prefix}.Waiting() + "_ADOPTED"
}

// Ensure opens the bucket and makes it if there is none.
func Ensure(ctx context.Context, js jetstream.JetStream, prefix string, replicas int) (*Bucket, error) {
	kv, err := streams.Bucket(ctx, js, jetstream.KeyValueConfig{
		Bucket: BucketName(prefix), Description: "Rebound: the consumers that are adopted", Storage: jetstream.FileStorage, Replicas: max(replicas, 1),
	})
	if err != nil {
		return nil, err
	}
	return &Bucket{kv, js}, nil
}

// Open opens the bucket. It returns [ErrNoBucket] when there is none.
func Open(ctx context.Context, js jetstream.JetStream, prefix string) (*Bucket, error) {
	name := BucketName(prefix)
	kv, err := js.KeyValue(ctx, name)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil, fmt.Errorf("bucket %s: %w", name, ErrNoBucket)
	}
	if err != nil {
		return nil, fmt.Errorf("opening bucket %s: %w", name, err)
	}
	return &Bucket{kv, js}, nil
}

// key returns the key of an adoption: the names of stream and consumer, with characters
// that a key may not hold written as = and two hexadecimal digits.
func key(stream, consumer string) string {
	var b strings.Builder
	for i, name := range []string{stream, consumer} {
		if i > 0 {
			b.WriteByte('.')
		}
		for _, c := range []byte(name) {
			switch {
			case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
				b.WriteByte(c)
			default:
				fmt.Fprintf(&b, "=%02X", c)
			}
		}
	}
	return b.String()
}

// Put stores an adoption in place of an earlier one of the same consumer.
func (b *Bucket) Put(ctx context.Context, a Adoption) error {
	value, err := json.Marshal(a)
	if err == nil {
		_, err = b.kv.Put(ctx, key(a.Stream, a.Consumer), value)
	}
	if err != nil {
		return fmt.Errorf("keeping the adoption of consumer %s of stream %s: %w", a.Consumer, a.Stream, err)
	}
	return nil
}

// Remove ends the adoption of a consumer. It returns [ErrNotAdopted] when there
// is none.
func (b *Bucket) Remove(ctx context.Context, stream, consumer string) error {
	if _, err := b.Get(ctx, stream, consumer); err != nil {
		return err
	}
	if err := b.kv.Delete(ctx, key(stream, consumer)); err != nil {
		return fmt.Errorf("ending the adoption of consumer %s of stream %s: %w", consumer, stream, err)
	}
	return nil
}

// Get returns the adoption of a consumer, or [ErrNotAdopted]. It asks the leader of the
// bucket, so that it sees what was just stored.
func (b *Bucket) Get(ctx context.Context, stream, consumer string) (Adoption, error) {
	value, found, err := leaderValue(ctx, b.js, b.kv.Bucket(), key(stream, consumer))
	switch {
	case err != nil:
		return Adoption{}, fmt.Errorf("reading the adoption of consumer %s of stream %s: %w", consumer, stream, err)
	case !found:
		return Adoption{}, fmt.Errorf("consumer %s of stream %s: %w", consumer, stream, ErrNotAdopted)
	}
	return read(value)
}

// leaderValue reads a key from the leader of its bucket.
func leaderValue(ctx context.Context, js jetstream.JetStream, bucket, key string) (value []byte, found bool, err error) {
	value, _, err = streams.EntryGet(ctx, js, bucket, key)
	if streams.IsGone(err) {
		return nil, false, nil
	}
	return value, err == nil, err
}

func read(value []byte) (Adoption, error) {
	var a Adoption
	if err := json.Unmarshal(value, &a); err != nil {
		return Adoption{}, fmt.Errorf("reading an adoption: %w", err)
	}
	return a, nil
}

// List returns every adoption, sorted by stream and consumer.
func (b *Bucket) List(ctx context.Context) ([]Adoption, error) {
	var list []Adoption
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err := b.Watch(ctx, func(adopted []Adoption) {
		list = adopted
		cancel()
	})
	if err == nil && list == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("listing the adopted consumers: %w", err)
	}
	return list, nil
}

// Watch calls changed with all adoptions, sorted by stream and consumer, and again after
// each change, one call at a time. The callee owns the list, which is never nil. Watch
// returns nil when ctx ends, and otherwise why the watch ended.
func (b *Bucket) Watch(ctx context.Context, changed func([]Adoption)) error {
	err := streams.WatchValues(ctx, b.kv, func(e jetstream.KeyValueEntry) (Adoption, error) { return read(e.Value()) }, changed)
	if err != nil {
		return fmt.Errorf("watching the adopted consumers: %w", err)
	}
	return nil
}
