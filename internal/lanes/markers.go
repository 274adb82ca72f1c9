package lanes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/semaphore"

	"github.com/rebound-mq/rebound/internal/notify"
	"github.com/rebound-mq/rebound/internal/opstore"
	"github.com/rebound-mq/rebound/internal/streams"
)

// restMost is how long at most a marker must be unchanged to be removed.
const restMost = 2 * time.Minute

// markers name in a bucket the keys that have lanes, so that every instance finds what
// any other has held.
//
// An instance marks a key before it holds an operation, and again if its mark is older than
// fresh. So only old holds rely on a marker that was unchanged for rest, which is twice as
// long: if the lanes are empty then, the marker is removed, in the revision that was seen.
// Anything that escapes this, as when the bucket is lost, is found in the lanes themselves;
// see [Lanes.scan].
type markers struct {
	js        jetstream.JetStream
	reading   jetstream.JetStream
	persister *opstore.Persister
	config    jetstream.KeyValueConfig
	bucket    jetstream.KeyValue
	log       *slog.Logger
	// fresh and rest are described above; sweep is how often the bucket is read.
	fresh, rest, sweep time.Duration
	lost               notify.Signal // set when the bucket was made anew

	mu     sync.Mutex // guards the fields below, and the state of every [marker]
	stream jetstream.Stream
	read   edition   // of the last listing; zero makes it be read again
	epoch  uint64    // counts the buckets
	rests  time.Time // until then no marker is removed, because a removal failed
}

// marker is what an instance knows of the marker of one key.
type marker struct {
	writing *semaphore.Weighted // acquired to write or remove the marker

	// The fields below are guarded by markers.mu.
	put    time.Time // when this instance last began to write it; zero for never
	epoch  uint64    // the bucket then
	listed bool      // it was in the bucket
	since  time.Time // when it was first seen there unchanged
	upto   uint64    // no revision of it was higher then
}

// edition changes whenever a bucket may name other keys.
type edition struct {
	created  time.Time
	last     uint64
	messages uint64
}

func newMarkers(js jetstream.JetStream, bucket jetstream.KeyValue, persister *opstore.Persister, config KeysConfig) *markers {
	rest := config.Rest
	if rest == 0 {
		rest = min(restMost, config.ForgetAfter)
	}
	return &markers{
		js: js, reading: config.Reading, persister: persister, config: config.bucket(), bucket: bucket, log: config.Log,
		fresh: rest / 2, rest: rest, sweep: min(sweepEvery, rest/2), lost: notify.NewSignal(),
	}
}

// name names the key in the bucket.
func (k *keyLanes) name() string { return k.service + "." + k.operation }

// put marks a key unless this instance did so recently.
func (m *markers) put(ctx context.Context, k *keyLanes) error {
	if err := k.marker.writing.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("marking the lanes of %s: %w", k.key(), err)
	}
	defer k.marker.writing.Release(1)
	return m.write(ctx, k)
}

// write is put for a caller that has acquired k.marker.writing.
func (m *markers) write(ctx context.Context, k *keyLanes) error {
	if m.isFresh(k) {
		return nil
	}
	var began time.Time
	var epoch uint64
	err := m.persister.Persist(ctx, "naming the lanes of "+k.key(), func(ctx context.Context) error {
		began, epoch = time.Now(), m.bucketEpoch()
		_, err := m.bucket.Put(ctx, k.name(), nil)
		if errors.Is(err, jetstream.ErrNoStreamResponse) {
			return errors.Join(err, m.reopen(ctx))
		}
		return err
	})
	if err == nil {
		m.mu.Lock()
		k.marker.put, k.marker.epoch = began, epoch
		m.mu.Unlock()
	}
	return err
}

// isFresh reports whether the mark of a key needs no renewal.
func (m *markers) isFresh(k *keyLanes) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.relies(k, time.Now())
}

// relies reports whether this instance may hold operations of a key without marking it.
// The caller has locked m.mu.
func (m *markers) relies(k *keyLanes, now time.Time) bool {
	return !k.marker.put.IsZero() && k.marker.epoch == m.epoch && now.Sub(k.marker.put) < m.fresh
}

func (m *markers) bucketEpoch() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.epoch
}

// remark marks a key that has operations in its lanes and is not known to be marked.
func (m *markers) remark(ctx context.Context, k *keyLanes) error {
	m.mu.Lock()
	known := k.marker.listed || m.relies(k, time.Now())
	m.mu.Unlock()
	if known {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, streams.CallTimeout)
	defer cancel()
	return m.put(ctx, k)
}

// reopen makes the bucket anew if it is gone.
func (m *markers) reopen(ctx context.Context) error {
	_, err := m.js.Stream(ctx, "KV_"+m.config.Bucket)
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	if _, err := streams.Bucket(ctx, m.js, m.config); err != nil {
		return err
	}
	m.mu.Lock()
	m.renewed()
	m.mu.Unlock()
	m.log.Warn("the bucket that names the keys with lanes was gone and is made anew", "bucket", m.config.Bucket)
	return nil
}

// renewed records that the bucket was made anew, so that no key is marked yet. The caller
// has locked m.mu.
func (m *markers) renewed() {
	m.epoch++
	m.read = edition{}
	m.lost.Set()
}

// list returns the marked keys, as service.operation, and the last revision of the
// bucket. ok is false if nothing changed since the last listing.
func (m *markers) list(ctx context.Context) (names map[string]bool, last uint64, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, streams.CallTimeout)
	defer cancel()
	stream, err := m.reading.Stream(ctx, "KV_"+m.config.Bucket)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, 0, false, m.reopen(ctx)
	}
	if err != nil {
		return nil, 0, false, err
	}
	info := stream.CachedInfo()
	if !m.differs(stream, info) {
		return nil, 0, false, nil
	}
	prefix := "$KV." + m.config.Bucket + "."
	if info.State.Msgs > 0 {
		if info, err = stream.Info(ctx, jetstream.WithSubjectFilter(prefix+">")); err != nil {
			return nil, 0, false, err
		}
	}
	names = make(map[string]bool, len(info.State.Subjects))
	for subject := range info.State.Subjects {
		names[subject[len(prefix):]] = true
	}
	m.mu.Lock()
	m.read = editionOf(info)
	m.mu.Unlock()
	return names, info.State.LastSeq, true, nil
}

func editionOf(info *jetstream.StreamInfo) edition {
	return edition{created: info.Created, last: info.State.LastSeq, messages: info.State.Msgs}
}

// differs reports whether the bucket may name other keys than at the last listing.
func (m *markers) differs(stream jetstream.Stream, info *jetstream.StreamInfo) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stream = stream
	if known := m.read.created; !known.IsZero() && !known.Equal(info.Created) {
		m.renewed() // by another instance
	}
	return m.read != editionOf(info)
}

// listed records whether a key was in the bucket at a listing. gone is whether its marker
// has vanished.
func (m *markers) listed(k *keyLanes, in bool, last uint64, asked time.Time) (gone bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case in && !k.marker.listed:
		k.marker.listed, k.marker.since, k.marker.upto = true, asked, last
	case in:
	case k.marker.listed, !k.marker.put.IsZero() && k.marker.put.Before(asked):
		k.marker.listed, k.marker.put = false, time.Time{}
		return true
	}
	return false
}

// isListed reports whether a key was in the bucket at the last listing; known is whether
// it counts as marked.
func (m *markers) isListed(k *keyLanes) (listed, known bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return k.marker.listed, k.marker.listed || m.relies(k, time.Now())
}

// removable reports whether the marker of a key may be removed once its lanes are empty.
func (m *markers) removable(k *keyLanes, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return k.marker.listed && !m.relies(k, now) && now.Sub(k.marker.since) >= m.rest && now.After(m.rests)
}

// remove removes the marker of a key in the revision that was seen. A purge leaves nothing
// behind, and spares a later revision. The caller has acquired k.marker.writing.
func (m *markers) remove(ctx context.Context, k *keyLanes) error {
	m.mu.Lock()
	stream, upto := m.stream, k.marker.upto
	m.mu.Unlock()
	err := stream.Purge(ctx, jetstream.WithPurgeSubject("$KV."+m.config.Bucket+"."+k.name()), jetstream.WithPurgeSequence(upto+1))
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.rests = time.Now().Add(time.Minute)
		return fmt.Errorf("removing the marker of %s: %w", k.key(), err)
	}
	k.marker.listed, k.marker.put = false, time.Time{}
	m.read = edition{}
	return nil
}
