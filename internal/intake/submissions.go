package intake

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/schemas"
)

// Persister repeats a call of JetStream until its answer is final.
type Persister interface {
	Persist(ctx context.Context, doing string, do func(context.Context) error) error
}

// Submissions are the submissions that wait in the intake stream.
type Submissions struct {
	js        jetstream.JetStream
	persister Persister
	subjects  events.Subjects
	stream    jetstream.Stream
	name      string // of the stream
}

// OpenSubmissions returns the submissions under a subject prefix.
func OpenSubmissions(ctx context.Context, js jetstream.JetStream, persister Persister, prefix string) (*Submissions, error) {
	s := &Submissions{js: js, persister: persister, subjects: events.Subjects{Prefix: prefix}, name: events.Streams{Prefix: prefix}.Intake()}
	var err error
	if s.stream, err = js.Stream(ctx, s.name); err != nil {
		return nil, fmt.Errorf("reading stream %s: %w", s.name, err)
	}
	return s, nil
}

// Remove removes the submission that op.Ahead names, and returns once it is gone. A
// different message at that sequence stays: the stream was made anew.
func (s *Submissions) Remove(ctx context.Context, op *events.Operation) error {
	return s.persister.Persist(ctx, "removing the submission of operation "+op.ID, func(ctx context.Context) error {
		m, gone, err := streams.GetAt(ctx, s.js, s.name, op.Ahead)
		switch {
		case err != nil || gone:
			return err
		case m.Subject != s.subjects.Submit(op.Service, op.Operation), !m.Time.Equal(op.Submitted):
			return nil
		}
		return s.delete(ctx, op.Ahead)
	})
}

// delete removes a message that may be gone.
func (s *Submissions) delete(ctx context.Context, sequence uint64) error {
	if err := s.stream.DeleteMsg(ctx, sequence); !streams.IsGone(err) {
		return err
	}
	return nil
}

// next returns the first submission on a subject from a sequence on, nil if there is none.
func (s *Submissions) next(ctx context.Context, from uint64, subject string) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, streams.CallTimeout)
	defer cancel()
	m, err := streams.LeaderGet(ctx, s.js, s.name, streams.NextBySubject(from, subject))
	if streams.IsGone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", subject, err)
	}
	return m, nil
}

// waiting counts the submissions on a subject by service, including those in flight.
func (s *Submissions) waiting(ctx context.Context, subject string) (map[string]uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, streams.CallTimeout)
	defer cancel()
	info, err := s.stream.Info(ctx, jetstream.WithSubjectFilter(subject))
	if err != nil {
		return nil, fmt.Errorf("counting the submissions in stream %s: %w", s.name, err)
	}
	counts := make(map[string]uint64)
	for subject, n := range info.State.Subjects {
		if service, _, err := s.subjects.SplitSubmit(subject); err == nil {
			counts[service] += n
		}
	}
	return counts, nil
}

// Most returns up to n services with the most waiting submissions, the most first.
func (s *Submissions) Most(ctx context.Context, n int) ([]schemas.ServiceSubmitted, error) {
	counts, err := s.waiting(ctx, s.subjects.Submissions())
	if err != nil {
		return nil, err
	}
	all := make([]schemas.ServiceSubmitted, 0, len(counts))
	for service, n := range counts {
		all = append(all, schemas.ServiceSubmitted{Service: service, Submitted: n})
	}
	slices.SortFunc(all, func(a, b schemas.ServiceSubmitted) int {
		return cmp.Or(cmp.Compare(b.Submitted, a.Submitted), cmp.Compare(a.Service, b.Service))
	})
	return all[:min(n, len(all))], nil
}

// stateSize is how many bytes of a message an operation's state and the headers of JetStream
// may take besides the submission.
const stateSize = 48 << 10

// Fits rejects a submission that leaves too few bytes of the server's largest message for
// the operation's state. The error is an [*events.RejectedError].
func Fits(op *events.Operation, h nats.Header, data []byte, maxPayload int64) error {
	size, limit := int64(len(data))+streams.HeaderSize(h), maxPayload-stateSize
	if size <= limit {
		return nil
	}
	return &events.RejectedError{
		Service: op.Service, Operation: op.Operation,
		Problem: fmt.Errorf("the submission has %d bytes, more than the %d allowed: the server's maximum less %d for the operation's state",
			size, limit, stateSize),
	}
}
