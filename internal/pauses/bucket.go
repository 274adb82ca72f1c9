package pauses

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/streams"
)

var (
	// ErrNotPaused says that there is no pause of a pattern.
	ErrNotPaused = errors.New("is not paused")
	// ErrNoBucket says that no service has run.
	ErrNoBucket = errors.New("there is no bucket of pauses")
)

// Bucket keeps the pauses of one prefix. It is safe for concurrent use.
type Bucket struct {
	kv jetstream.KeyValue
	js jetstream.JetStream
}

// BucketName returns the name of the bucket under a subject prefix, empty for
// [events.DefaultPrefix]. The bucket's stream is named KV_ and this.
func BucketName(prefix string) string { return events.Streams{Prefix: prefix}.PausesBucket() }

// Ensure opens the bucket and makes it if there is none.
func Ensure(ctx context.Context, js jetstream.JetStream, prefix string, replicas int) (*Bucket, error) {
	kv, err := streams.Bucket(ctx, js, jetstream.KeyValueConfig{
		Bucket: BucketName(prefix), Description: "Rebound: what operators have paused", Storage: jetstream.FileStorage, Replicas: max(replicas, 1),
	})
	if err != nil {
		return nil, err
	}
	return &Bucket{kv, js}, nil
}

// Watch calls inForce with the pauses of a bucket that the service keeps, first as they are and
// then whenever they change, until ctx ends or the bucket is lost. broken is called with an entry
// that cannot be read, which holds nothing. The error is [ErrNoBucket] if there is no bucket.
func Watch(ctx context.Context, js jetstream.JetStream, prefix string, inForce func([]events.Pause), broken func(key string, err error)) error {
	name := BucketName(prefix)
	kv, err := js.KeyValue(ctx, name)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return fmt.Errorf("bucket %s: %w", name, ErrNoBucket)
	}
	if err != nil {
		return fmt.Errorf("opening bucket %s: %w", name, err)
	}
	return (&Bucket{kv, js}).watch(ctx, func(list []entry) {
		all := make([]events.Pause, 0, len(list))
		for i := range list {
			if list[i].Pattern != (events.Pattern{}) {
				all = append(all, list[i].Pause)
			}
		}
		inForce(all)
	}, broken)
}

// entry is a pause as it is kept.
type entry struct {
	events.Pause
	key      string
	revision uint64
}

// key returns the key of a pattern's pause.
func key(p events.Pattern) string { return streams.BucketKey(p.String()) }

// Put stores a pause in place of an earlier one of the same pattern.
func (b *Bucket) Put(ctx context.Context, p events.Pause) error {
	value, err := json.Marshal(p)
	if err == nil {
		_, err = b.kv.Put(ctx, key(p.Pattern), value)
	}
	if err != nil {
		return fmt.Errorf("keeping the pause of %s: %w", p.Pattern, err)
	}
	return nil
}

// Remove ends the pause of a pattern and returns it. It returns [ErrNotPaused] when there is none.
func (b *Bucket) Remove(ctx context.Context, p events.Pattern) (events.Pause, error) {
	value, _, err := streams.EntryGet(ctx, b.js, b.kv.Bucket(), key(p))
	if streams.IsGone(err) {
		return events.Pause{}, fmt.Errorf("%s %w", p, ErrNotPaused)
	}
	if err != nil {
		return events.Pause{}, fmt.Errorf("reading the pause of %s: %w", p, err)
	}
	var was events.Pause
	if err := json.Unmarshal(value, &was); err != nil {
		was = events.Pause{Pattern: p} // it ends all the same
	}
	if err := b.kv.Delete(ctx, key(p)); err != nil {
		return events.Pause{}, fmt.Errorf("ending the pause of %s: %w", p, err)
	}
	return was, nil
}

// drop removes an entry unless it has changed.
func (b *Bucket) drop(ctx context.Context, e entry) error {
	err := b.kv.Delete(ctx, e.key, jetstream.LastRevision(e.revision))
	if err != nil && !streams.IsConflict(err) {
		return fmt.Errorf("removing the ended pause of %s: %w", e.Pattern, err)
	}
	return nil
}

// restore stores a pause in a bucket that was made anew, unless its key has been written since.
func (b *Bucket) restore(ctx context.Context, p events.Pause) error {
	value, err := json.Marshal(p)
	if err == nil {
		_, err = b.kv.Update(ctx, key(p.Pattern), value, 0)
	}
	if err != nil && !streams.IsConflict(err) {
		return fmt.Errorf("restoring the pause of %s: %w", p.Pattern, err)
	}
	return nil
}

// created returns when the bucket was made.
func (b *Bucket) created(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, streams.CallTimeout)
	defer cancel()
	s, err := b.js.Stream(ctx, "KV_"+b.kv.Bucket())
	if err != nil {
		return time.Time{}, fmt.Errorf("reading bucket %s: %w", b.kv.Bucket(), err)
	}
	return s.CachedInfo().Created, nil
}

// watch calls changed with all entries, and again after each change. An entry that cannot be read
// is left out and reported to broken.
func (b *Bucket) watch(ctx context.Context, changed func([]entry), broken func(key string, err error)) error {
	err := streams.WatchValues(ctx, b.kv, func(e jetstream.KeyValueEntry) (entry, error) {
		one := entry{key: e.Key(), revision: e.Revision()}
		if err := json.Unmarshal(e.Value(), &one.Pause); err != nil {
			broken(e.Key(), err)
			one.Pause = events.Pause{} // which matches nothing
		}
		return one, nil
	}, changed)
	if err != nil {
		return fmt.Errorf("watching the pauses: %w", err)
	}
	return nil
}
