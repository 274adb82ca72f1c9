package policies

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// key is the only key of the bucket.
const key = "current"

// MaxHistory is how many revisions are kept.
const MaxHistory = jetstream.KeyValueMaxHistory

var (
	// ErrNoBucket says that nothing was ever applied and that no service has run.
	ErrNoBucket = errors.New("there is no bucket of policies")
	// ErrNoRevision says that there is no such revision, or that it is no longer
	// kept.
	ErrNoRevision = errors.New("there is no such revision of the policies")
	// ErrChanged says that somebody else applied policies meanwhile.
	ErrChanged = errors.New("other policies were applied meanwhile")
)

// Revision is one policy file that was applied.
type Revision struct {
	// Number counts up from 1. 0 means that nothing was applied.
	Number uint64
	// At is when it was applied.
	At time.Time
	// Source is the file, byte for byte. It is nil for a revision that removed the
	// policies, so that each instance uses those that it was started with.
	Source []byte
}

// Name returns the name of a revision, which is the file name in the issues and origins
// of its [policy.Set].
func (r Revision) Name() string { return fmt.Sprintf("revision %d", r.Number) }

// Removed reports whether the revision removed the policies.
func (r Revision) Removed() bool { return r.Number > 0 && r.Source == nil }

// Parse reads the policies of the revision; see [policy.Parse].
func (r Revision) Parse() (*policy.Set, error) { return policy.Parse(r.Name(), r.Source) }

// Bucket gives access to the policies of one prefix. It is safe for concurrent
// use.
type Bucket struct {
	kv jetstream.KeyValue
	js jetstream.JetStream
}

// BucketName returns the name of the bucket under a subject prefix, empty for
// [events.DefaultPrefix]. The bucket's stream is named KV_ and this.
func BucketName(prefix string) string {
	return events.Streams{Prefix: prefix}.Waiting() + "_POLICIES"
}

// Ensure opens the bucket and makes it if there is none.
func Ensure(ctx context.Context, js jetstream.JetStream, prefix string, replicas int) (*Bucket, error) {
	kv, err := streams.Bucket(ctx, js, jetstream.KeyValueConfig{
		Bucket: BucketName(prefix), Description: "Rebound: the policies in force", History: MaxHistory,
		MaxValueSize: policy.MaxSource, Storage: jetstream.FileStorage, Replicas: max(replicas, 1),
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

// Current returns the latest revision. Its number is 0 when nothing was applied.
func (b *Bucket) Current(ctx context.Context) (Revision, error) {
	history, err := b.History(ctx)
	if err != nil || len(history) == 0 {
		return Revision{}, err
	}
	return history[0], nil
}

// History returns the revisions that are kept, at most [MaxHistory], the latest
// first.
func (b *Bucket) History(ctx context.Context) ([]Revision, error) {
	entries, err := b.kv.History(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the history of the policies: %w", err)
	}
	revisions := make([]Revision, len(entries))
	for i, e := range entries {
		revisions[i] = revision(e)
	}
	slices.Reverse(revisions)
	return revisions, nil
}

// At returns one revision, or [ErrNoRevision].
func (b *Bucket) At(ctx context.Context, number uint64) (Revision, error) {
	e, err := b.kv.GetRevision(ctx, key, number)
	if errors.Is(err, jetstream.ErrKeyNotFound) || errors.Is(err, jetstream.ErrKeyDeleted) {
		return Revision{}, fmt.Errorf("revision %d: %w", number, ErrNoRevision)
	}
	if err != nil {
		return Revision{}, fmt.Errorf("reading revision %d of the policies: %w", number, err)
	}
	return revision(e), nil
}

// Apply puts a policy file in force for all instances. It refuses a file that
// [policy.Parse] refuses, and what was in force stays. It returns [ErrChanged] if over is
// no longer the latest revision.
func (b *Bucket) Apply(ctx context.Context, name string, source []byte, over uint64) (Revision, error) {
	if _, err := policy.Parse(name, source); err != nil {
		return Revision{}, err
	}
	number, err := b.replace(ctx, source, over)
	if streams.IsConflict(err) {
		return Revision{}, fmt.Errorf("applying policies over revision %d: %w", over, ErrChanged)
	}
	if err != nil {
		return Revision{}, fmt.Errorf("applying policies: %w", err)
	}
	return Revision{Number: number, At: time.Now(), Source: source}, nil
}

// Gone returns the names at the top level of the policy file in force that the next file has not.
func Gone(inForce, next *policy.Set) []string {
	kept := next.Sections()
	return slices.DeleteFunc(inForce.Sections(), func(name string) bool { return slices.Contains(kept, name) })
}

// replaceTries is how often a write is tried while the servers agree on another, which
// takes a few milliseconds.
const replaceTries = 100

// replace stores a revision over another. It waits while the servers agree on another write,
// which may still fail. It looks for a write without an answer before it counts that as
// failed.
func (b *Bucket) replace(ctx context.Context, source []byte, over uint64) (number uint64, err error) {
	for try := 1; try <= replaceTries; try++ {
		if number, err = b.kv.Update(ctx, key, source, over); !streams.IsPending(err) {
			break
		}
		if err := streams.Pause(ctx, try); err != nil {
			return 0, err
		}
	}
	if err == nil || streams.IsConflict(err) {
		return number, err
	}
	looking, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTimeout)
	defer cancel()
	if value, latest, readErr := streams.EntryGet(looking, b.js, b.kv.Bucket(), key); readErr == nil && latest > over && bytes.Equal(value, source) {
		return latest, nil
	}
	return 0, err
}

// lookTimeout bounds looking for a write without an answer.
const lookTimeout = 3 * time.Second

// Rollback applies an earlier revision again, as a new one. It returns
// [ErrNoRevision] or [ErrChanged] like [Bucket.At] and [Bucket.Apply].
func (b *Bucket) Rollback(ctx context.Context, number uint64) (Revision, error) {
	current, err := b.Current(ctx)
	if err != nil {
		return Revision{}, err
	}
	earlier, err := b.At(ctx, number)
	if err != nil {
		return Revision{}, err
	}
	return b.Apply(ctx, earlier.Name(), earlier.Source, current.Number)
}

// Watch calls changed for the latest revision, if there is one, and then for every new
// one, one call at a time. It returns nil when ctx ends, and otherwise why the watch
// ended.
func (b *Bucket) Watch(ctx context.Context, changed func(Revision)) error {
	w, err := b.kv.Watch(ctx, key)
	if err != nil {
		return watchError(ctx, err)
	}
	return watchError(ctx, streams.Follow(ctx, w, func(e jetstream.KeyValueEntry) (enough bool, err error) {
		if e != nil { // nil follows the latest revision
			changed(revision(e))
		}
		return false, nil
	}))
}

func watchError(ctx context.Context, err error) error {
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("watching the policies: %w", err)
	}
	return nil
}

func revision(e jetstream.KeyValueEntry) Revision {
	r := Revision{Number: e.Revision(), At: e.Created()}
	if e.Operation() == jetstream.KeyValuePut {
		r.Source = e.Value()
		if r.Source == nil {
			r.Source = []byte{}
		}
	}
	return r
}

// Comment returns the first line of a policy file, without its #, if it is a comment. It may
// say why the file was applied.
func (r Revision) Comment() string {
	first, _, _ := strings.Cut(string(r.Source), "\n")
	comment, ok := strings.CutPrefix(strings.TrimSpace(first), "#")
	if !ok {
		return ""
	}
	return strings.TrimSpace(comment)
}
