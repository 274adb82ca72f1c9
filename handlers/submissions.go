package handlers

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/opstore"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/schemas"
)

// submissions takes submissions out of the intake stream whose operations were
// taken in before their turn.
type submissions struct {
	js       jetstream.JetStream
	store    *opstore.Store
	subjects events.Subjects
	streams  events.Streams
	stream   jetstream.Stream
}

// remove takes away the submission that op.Ahead names, and returns once it is
// gone. A message there that is not it stays: the stream was made anew.
func (s *submissions) remove(ctx context.Context, op *events.Operation) error {
	return s.store.Persist(ctx, "removing the submission of operation "+op.ID, func(ctx context.Context) error {
		m, gone, err := streams.GetAt(ctx, s.js, s.streams.Intake(), op.Ahead)
		switch {
		case err != nil || gone:
			return err
		case m.Subject != s.subjects.Submit(op.Service, op.Operation), !m.Time.Equal(op.Submitted):
			return nil
		}
		return s.delete(ctx, op.Ahead)
	})
}

// delete takes a message away that may be gone.
func (s *submissions) delete(ctx context.Context, sequence uint64) error {
	if err := s.stream.DeleteMsg(ctx, sequence); !streams.IsGone(err) {
		return err
	}
	return nil
}

// waiting counts by service the submissions that wait on a subject, those in hand
// included.
func (s *submissions) waiting(ctx context.Context, subject string) (map[string]uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, streams.CallTimeout)
	defer cancel()
	info, err := s.stream.Info(ctx, jetstream.WithSubjectFilter(subject))
	if err != nil {
		return nil, fmt.Errorf("counting the submissions in stream %s: %w", s.streams.Intake(), err)
	}
	counts := make(map[string]uint64)
	for subject, n := range info.State.Subjects {
		if service, _, err := s.subjects.SplitSubmit(subject); err == nil {
			counts[service] += n
		}
	}
	return counts, nil
}

// maxWaitingShown is how many services the status shows by their submissions.
const maxWaitingShown = 5

// most returns up to n services of which the most submissions wait.
func (s *submissions) most(ctx context.Context, n int) ([]schemas.ServiceSubmitted, error) {
	counts, err := s.waiting(ctx, s.subjects.Submissions())
	if err != nil {
		return nil, err
	}
	all := make([]schemas.ServiceSubmitted, 0, len(counts))
	for service, waiting := range counts {
		all = append(all, schemas.ServiceSubmitted{Service: service, Submitted: waiting})
	}
	slices.SortFunc(all, func(a, b schemas.ServiceSubmitted) int {
		return cmp.Or(cmp.Compare(b.Submitted, a.Submitted), cmp.Compare(a.Service, b.Service))
	})
	return all[:min(n, len(all))], nil
}
