package deadletter

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/internal/streams"
)

// ErrNotFound says that there is no such dead letter, or that it is gone.
var ErrNotFound = errors.New("no such dead letter")

// Letters gives access to the dead letters of one prefix. It is safe for
// concurrent use.
type Letters struct {
	js       jetstream.JetStream
	subjects events.Subjects
	streams  events.Streams
}

// New returns the access to the dead letters under a subject prefix, empty for
// [events.DefaultPrefix].
func New(js jetstream.JetStream, prefix string) *Letters {
	return &Letters{js: js, subjects: events.Subjects{Prefix: prefix}, streams: events.Streams{Prefix: prefix}}
}

// matches applies what the subject does not already select by.
func matches(f events.DeadLetterFilter, d *events.DeadLetter) bool {
	return (f.Reason == "" || d.Reason == f.Reason) &&
		(f.ErrorCode == "" || d.ErrorCode() == f.ErrorCode) &&
		(f.Since.IsZero() || !d.DiedAt.Before(f.Since)) &&
		(f.Until.IsZero() || d.DiedAt.Before(f.Until))
}

// List iterates over the dead letters that f selects, oldest first, page by page. What
// is added meanwhile is not included: a replay of operations that die again would never
// end. What is removed meanwhile is not included either. An error ends the iteration.
func (l *Letters) List(ctx context.Context, f events.DeadLetterFilter) iter.Seq2[*events.DeadLetter, error] {
	return func(yield func(*events.DeadLetter, error) bool) {
		left := f.Limit
		for d, err := range l.candidates(ctx, f) {
			if err != nil {
				yield(nil, err)
				return
			}
			if !matches(f, d) {
				continue
			}
			if !yield(d, nil) {
				return
			}
			if left--; left == 0 {
				return
			}
		}
	}
}

// candidates iterates over the dead letters under the subjects that f selects.
func (l *Letters) candidates(ctx context.Context, f events.DeadLetterFilter) iter.Seq2[*events.DeadLetter, error] {
	return func(yield func(*events.DeadLetter, error) bool) {
		subjects, last, err := l.selection(ctx, f)
		if err != nil {
			yield(nil, err)
			return
		}
		for _, subject := range subjects {
			for d, err := range l.scan(ctx, subject, f.After, last) {
				if !yield(d, err) {
					return
				}
			}
		}
	}
}

// selection returns the subjects to read and the last sequence to read.
func (l *Letters) selection(ctx context.Context, f events.DeadLetterFilter) (subjects []string, last uint64, err error) {
	if err := f.Check(); err != nil {
		return nil, 0, err
	}
	for _, id := range f.IDs {
		subjects = append(subjects, l.subjects.DeadLetters(f.Service, f.Operation, id))
	}
	if len(subjects) > 0 {
		return subjects, math.MaxUint64, nil
	}
	stream, err := l.js.Stream(ctx, l.streams.Dead())
	if err != nil {
		return nil, 0, fmt.Errorf("reading the dead letters: %w", err)
	}
	return []string{l.subjects.DeadLetters(f.Service, f.Operation, "")}, stream.CachedInfo().State.LastSeq, nil
}

// scan iterates over the dead letters of a subject after one sequence and up to another.
func (l *Letters) scan(ctx context.Context, subject string, after, last uint64) iter.Seq2[*events.DeadLetter, error] {
	return func(yield func(*events.DeadLetter, error) bool) {
		for m, err := range streams.Scan(ctx, l.js, l.streams.Dead(), subject, jetstreamext.GetBatchSeq(after+1)) {
			if err != nil {
				yield(nil, fmt.Errorf("reading the dead letters: %w", err))
				return
			}
			if m.Sequence > last {
				return
			}
			if !yield(wire.DecodeDeadLetter(m.Subject, m.Sequence, m.Header, m.Data)) {
				return
			}
		}
	}
}

// Get returns one dead letter by operation id. It returns [ErrNotFound] when
// there is none.
func (l *Letters) Get(ctx context.Context, id string) (*events.DeadLetter, error) {
	for d, err := range l.List(ctx, events.DeadLetterFilter{IDs: []string{id}, Limit: 1}) {
		return d, err
	}
	return nil, fmt.Errorf("dead letter %s: %w", id, ErrNotFound)
}

// Of returns the dead letter of an operation as the stream's leader has it, or
// [ErrNotFound] when the leader has none.
func (l *Letters) Of(ctx context.Context, service, operation, id string) (*events.DeadLetter, error) {
	m, err := streams.LeaderGet(ctx, l.js, l.streams.Dead(), streams.LastBySubject(l.subjects.Dead(service, operation, id)))
	if streams.IsGone(err) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("reading dead letter %s: %w", id, err)
	}
	return wire.DecodeDeadLetter(m.Subject, m.Sequence, m.Header, m.Data)
}

// At returns the dead letter at a sequence of the stream, or [ErrNotFound] when it
// was removed.
func (l *Letters) At(ctx context.Context, sequence uint64) (*events.DeadLetter, error) {
	m, gone, err := streams.GetAt(ctx, l.js, l.streams.Dead(), sequence)
	if gone {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("reading dead letter %d: %w", sequence, err)
	}
	return wire.DecodeDeadLetter(m.Subject, m.Sequence, m.Header, m.Data)
}

// ReplayMessage returns the message that asks for a dead letter to be replayed. It names
// the dead letter and carries none of it, so that only what is there can be replayed. Its
// message id makes JetStream drop a second request.
func (l *Letters) ReplayMessage(d *events.DeadLetter) *nats.Msg {
	m := nats.NewMsg(l.subjects.Submit(d.Service, d.Operation))
	m.Header[events.HeaderDeadSequence] = []string{strconv.FormatUint(d.Sequence, 10)}
	m.Header[jetstream.MsgIDHeader] = []string{d.ID + "." + strconv.FormatUint(d.Sequence, 10) + ".replay"}
	return m
}

// Replay asks for one dead letter to be replayed and returns when the request
// is stored. Asking twice for the same dead letter replays it once.
func (l *Letters) Replay(ctx context.Context, d *events.DeadLetter) error {
	if _, err := l.js.PublishMsg(ctx, l.ReplayMessage(d)); err != nil {
		return fmt.Errorf("replaying dead letter %s: %w", d.ID, err)
	}
	return nil
}

// Discard removes a dead letter for good. It returns [ErrNotFound] when it is
// gone already.
func (l *Letters) Discard(ctx context.Context, d *events.DeadLetter) error {
	err := streams.Delete(ctx, l.js, l.streams.Dead(), d.Sequence)
	if streams.IsGone(err) {
		return fmt.Errorf("discarding dead letter %s: %w", d.ID, ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("discarding dead letter %s: %w", d.ID, err)
	}
	return nil
}
