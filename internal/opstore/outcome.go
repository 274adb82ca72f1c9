package opstore

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/internal/deadletter"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/scheduler"
)

// Bury implements [scheduler.Store].
func (s *Store) Bury(ctx context.Context, op *events.Operation, m scheduler.Message, reason events.Reason, detail string) error {
	d := events.DeadLetter{
		ID: op.ID, Service: op.Service, Operation: op.Operation, Reason: reason, Detail: detail,
		DiedAt: s.clock.Now(), SubmittedTo: m.Subject, Header: m.Header, Data: m.Data,
	}
	if op.Attempt > 0 {
		d.State = op
	}
	msg, err := wire.EncodeDeadLetter(s.subjects, &d)
	if err != nil {
		return err
	}
	if most := s.maxPayload - streams.HeaderSize(msg.Header); int64(len(msg.Data)) > most {
		d.Truncated = len(msg.Data)
		d.Data = msg.Data[:max(most-64, 0)]
		if msg, err = wire.EncodeDeadLetter(s.subjects, &d); err != nil {
			return err
		}
	}
	// The id keeps a late write from bringing it back after it was replayed.
	msg.Header[jetstream.MsgIDHeader] = []string{op.RunID("dead")}
	err = s.repeat(ctx, "burying operation "+op.ID, func(ctx context.Context) error {
		_, err := s.letters.publish(ctx, msg)
		return err
	})
	if err != nil {
		return err
	}
	s.meter.DeadLettered(ctx, op)
	s.burials.add(op.Key(), reason)
	return nil
}

// Ended implements [scheduler.Store].
func (s *Store) Ended(ctx context.Context, op *events.Operation, m scheduler.Message, outcome events.Outcome) error {
	if outcome.Outcome == events.RetryFailed {
		outcome.DeadLetter = s.subjects.Dead(op.Service, op.Operation, op.ID)
	}
	subject := s.subjects.Outcome(outcome.Outcome, op.Service, op.Operation)
	msg, err := wire.EncodeEvent(subject, wire.Event{Name: outcome.Outcome, ID: op.OutcomeID(), About: outcome.About, Time: outcome.EndedAt, Data: &outcome})
	if err != nil {
		return err
	}
	var first time.Time
	var ack *jetstream.PubAck
	err = s.repeat(ctx, "publishing the outcome of operation "+op.ID, func(ctx context.Context) error {
		now := time.Now()
		if first.IsZero() {
			first = now
		}
		// The server does not recognise what an earlier try stored for ever.
		if late := now.Sub(first) > events.DedupWindow/2; late || now.After(first) && m.Shared != nil && m.Shared() {
			return permanentError{scheduler.ErrShared}
		}
		ack, err = s.outcomes.publish(ctx, msg)
		return err
	})
	if err != nil {
		return err
	}
	if ack.Duplicate && outcome.Outcome == events.RetryFailed {
		if err := s.withdraw(ctx, op, ack.Sequence); err != nil {
			return err
		}
	}
	s.meter.Ended(ctx, op, outcome)
	return nil
}

// withdraw removes the dead letter of a run if another holder stored the outcome with that
// sequence first, and that is a success.
func (s *Store) withdraw(ctx context.Context, op *events.Operation, outcome uint64) error {
	letters, success := deadletter.New(s.js, s.subjects.Prefix), s.subjects.Outcome(events.RetrySuccess, op.Service, op.Operation)
	return s.Persist(ctx, "looking for the outcome of operation "+op.ID, func(ctx context.Context) error {
		m, gone, err := streams.GetAt(ctx, s.js, s.streams.Outcomes(), outcome)
		if err != nil || gone || m.Subject != success {
			return err
		}
		d, err := letters.Of(ctx, op.Service, op.Operation, op.ID)
		if err == nil && d.State != nil && d.State.Run() == op.Run() {
			err = letters.Discard(ctx, d)
		}
		if errors.Is(err, deadletter.ErrNotFound) {
			return nil
		}
		return err
	})
}

// Scheduled implements [scheduler.Store].
func (s *Store) Scheduled(ctx context.Context, op *events.Operation, event events.Scheduled) error {
	msg, err := s.encodeScheduled(op, event)
	if err != nil {
		return err
	}
	if err := s.Publish(ctx, "publishing the decision on operation "+op.ID, msg); err != nil {
		return err
	}
	s.meter.Decided(ctx, op, events.Milliseconds(event.DelayMs))
	return nil
}

// encodeScheduled returns the message that publishes a decision.
func (s *Store) encodeScheduled(op *events.Operation, event events.Scheduled) (*nats.Msg, error) {
	subject := s.subjects.Event(events.RetryScheduled, op.Service, op.Operation)
	return wire.EncodeEvent(subject, wire.Event{Name: events.RetryScheduled, ID: op.MessageID(events.RetryScheduled), About: event.About, Time: s.clock.Now(), Data: &event})
}
