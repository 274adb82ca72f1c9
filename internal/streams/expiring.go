package streams

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// Expiring is a key-value bucket whose values may expire individually.
type Expiring struct {
	jetstream.KeyValue
	js     jetstream.JetStream
	prefix string // of the subjects of keys
}

// ExpiringBucket opens a bucket like [Bucket] and allows its values to expire; it updates a
// bucket that an older version created.
func ExpiringBucket(ctx context.Context, js jetstream.JetStream, config jetstream.KeyValueConfig) (*Expiring, error) {
	kv, err := Bucket(ctx, js, config)
	if err != nil {
		return nil, err
	}
	stream, err := js.Stream(ctx, "KV_"+config.Bucket)
	if err != nil {
		return nil, fmt.Errorf("reading bucket %s: %w", config.Bucket, err)
	}
	if c := stream.CachedInfo().Config; !c.AllowMsgTTL {
		c.AllowMsgTTL = true
		if _, err := js.UpdateStream(ctx, c); err != nil {
			return nil, fmt.Errorf("letting values of bucket %s expire: %w", config.Bucket, err)
		}
	}
	return expiringBucket(js, kv), nil
}

// expiringBucket returns a bucket that was opened.
func expiringBucket(js jetstream.JetStream, kv jetstream.KeyValue) *Expiring {
	e := &Expiring{KeyValue: kv, js: js, prefix: "$KV." + kv.Bucket() + "."}
	if api := APIPrefix(js); api != jetstream.DefaultAPIPrefix {
		e.prefix = api + e.prefix // as for another domain
	}
	return e
}

// Foreign opens a bucket that others make, and never makes it. It is safe for concurrent use.
type Foreign struct {
	js   jetstream.JetStream
	name string

	mu      sync.Mutex // guards the fields below
	missing error      // nil when it was there
	asked   time.Time
}

// NewForeign returns an opener of the named bucket.
func NewForeign(js jetstream.JetStream, name string) *Foreign { return &Foreign{js: js, name: name} }

// missingFor is how long a bucket that was missing is not asked for again.
const missingFor = 2 * time.Second

// Open returns the bucket. The error is [jetstream.ErrBucketNotFound] when there is none, and
// remains so for two seconds.
func (f *Foreign) Open(ctx context.Context) (*Expiring, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.missing != nil && time.Since(f.asked) < missingFor {
		return nil, f.missing
	}
	kv, err := f.js.KeyValue(ctx, f.name)
	if err == nil {
		err = f.check(ctx)
	}
	f.missing = nil
	if errors.Is(err, jetstream.ErrBucketNotFound) || errors.Is(err, errNeverExpire) {
		f.missing, f.asked = fmt.Errorf("opening bucket %s: %w", f.name, err), time.Now()
		return nil, f.missing
	}
	if err != nil {
		return nil, fmt.Errorf("opening bucket %s: %w", f.name, err)
	}
	return expiringBucket(f.js, kv), nil
}

// errNeverExpire means that an older version made the bucket.
var errNeverExpire = errors.New("its values cannot expire; the service changes that when it starts")

func (f *Foreign) check(ctx context.Context) error {
	s, err := f.js.Stream(ctx, "KV_"+f.name)
	if err == nil && !s.CachedInfo().Config.AllowMsgTTL {
		return errNeverExpire
	}
	return err
}

// Latest reads a key like [EntryGet].
func (e *Expiring) Latest(ctx context.Context, key string) (value []byte, revision uint64, err error) {
	return EntryGet(ctx, e.js, e.Bucket(), key)
}

// Replace replaces the value of a revision, 0 for no value, and returns the new revision. The
// value expires after expires, if positive. If [IsConflict] is true of the error, nothing was
// written. A write that is not answered is sent again, for a few seconds or until ctx ends, but
// made only once. After any other error it is unknown whether it was made.
func (e *Expiring) Replace(ctx context.Context, key string, value []byte, revision uint64, expires time.Duration) (uint64, error) {
	// The leader of a replicated stream recognises repeats by the id.
	options := []jetstream.PublishOpt{
		jetstream.WithExpectLastSequencePerSubject(revision), jetstream.WithMsgID(nuid.Next()), jetstream.WithRetryAttempts(0),
	}
	if expires > 0 {
		// The server counts whole seconds.
		options = append(options, jetstream.WithMsgTTL(max(expires.Truncate(time.Second)+time.Second, time.Second)))
	}
	revision, err := write(ctx, func(ctx context.Context) (uint64, error) {
		ack, err := e.js.PublishMsg(ctx, &nats.Msg{Subject: e.prefix + key, Data: value}, options...)
		if err != nil {
			return 0, err
		}
		return ack.Sequence, nil
	})
	if err != nil {
		return 0, fmt.Errorf("putting %s into bucket %s: %w", key, e.Bucket(), err)
	}
	return revision, nil
}
