package handlers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/time/rate"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/scheduler"
)

const (
	headerSchedule       = "Nats-Schedule"
	headerScheduleTarget = "Nats-Schedule-Target"
	// These two end the schedule that stands on a subject in the same step that
	// stores a message on another.
	headerScheduler    = "Nats-Scheduler"
	headerScheduleNext = "Nats-Schedule-Next"
	schedulePurge      = "purge"

	// What the server says of a message that it will never take.
	codeMessageTooLarge = jetstream.ErrorCode(10054)
	codeHeaderTooLarge  = jetstream.ErrorCode(10097)

	publishTimeout  = 5 * time.Second
	shortestBackoff = 50 * time.Millisecond
	longestBackoff  = 2 * time.Second
)

// store keeps operations in JetStream. Its methods go on until what they store
// is acknowledged or ctx ends.
type store struct {
	js       jetstream.JetStream
	subjects events.Subjects
	streams  events.Streams
	log      *slog.Logger
	// warn bounds how often the log tells of delays.
	warn rate.Sometimes
	// maxPayload is the most bytes, headers included, that the server takes.
	maxPayload int64
	// lanes are told of what is held.
	lanes *lanes
	// delay is how long JetStream takes to answer.
	delay health.Delay
	// metrics counts what is stored.
	metrics *metrics
}

var _ scheduler.Store = (*store)(nil)

// Place implements [scheduler.Store]. The operation's slot, the subjects on
// which it can stand, is a register that changes only by compare-and-set:
// the publish names the last sequence that it expects there.
func (s *store) Place(ctx context.Context, op *events.Operation, m scheduler.Message) error {
	msg := &nats.Msg{Data: m.Data, Header: events.CarriedHeader(m.Header)}
	if err := op.Put(msg.Header); err != nil {
		return err
	}
	due := s.subjects.Due(op.Priority, op.Service, op.Operation, op.ID)
	parked := time.Until(op.Due) >= scheduler.ShortDelay
	if !parked {
		msg.Subject = due
	} else {
		msg.Subject = s.subjects.Parked(op.Priority, op.Service, op.Operation, op.ID)
		fireAt(msg, op.Due.Add(-scheduler.EarlyArming), due)
	}
	expect(msg, s.subjects.Slot(op.Service, op.Operation, op.ID), m.Version)
	if m.Name != "" && m.Version == 0 {
		// An empty slot does not tell whether this submission was placed before and
		// its operation has ended; the name does. A second placing is no fault.
		msg.Header[jetstream.MsgIDHeader] = []string{m.Name}
	}
	if m.Place != "" && m.Place != msg.Subject && !s.subjects.IsDue(m.Place) {
		endSchedule(msg, m.Place)
	}
	err := s.publish(ctx, "parking operation "+op.ID, msg)
	if err == nil && parked {
		s.metrics.parked.Add(ctx, 1, s.metrics.of(op).counted...)
	}
	return err
}

// Watch implements [scheduler.Store]. The watchdog is a schedule on the subject on
// which the operation is parked; it fires within 250 ms after its time. A publish
// whose acknowledgement got lost is recognised by its token and time.
func (s *store) Watch(ctx context.Context, op *events.Operation, m scheduler.Message) (scheduler.Message, error) {
	msg := &nats.Msg{
		Subject: s.subjects.Parked(op.Priority, op.Service, op.Operation, op.ID),
		Data:    m.Data, Header: events.CarriedHeader(m.Header),
	}
	if err := op.Put(msg.Header); err != nil {
		return m, err
	}
	fireAt(msg, op.Due, s.subjects.Due(op.Priority, op.Service, op.Operation, op.ID))
	expect(msg, s.subjects.Slot(op.Service, op.Operation, op.ID), m.Version)
	m.Place = msg.Subject
	err := s.persist(ctx, "watching over operation "+op.ID, func(ctx context.Context) error {
		ack, err := s.js.PublishMsg(ctx, msg)
		if err == nil {
			m.Version = ack.Sequence
		}
		return err
	})
	if !errors.Is(err, scheduler.ErrMoved) {
		return m, err
	}
	w, found, findErr := s.Find(ctx, op)
	if findErr == nil && found && w.Op.Work != nil && w.Op.Work.Knows(op.Work.Token) && w.Op.Work.Result == nil && w.Op.Due.Equal(op.Due) {
		m.Version, m.Place = w.Version, w.Place
		return m, nil
	}
	return m, errors.Join(err, findErr)
}

// maxHeld is after what time a held operation comes due by itself, whatever its
// gate says: should all else fail, it is looked at again. One with an earlier
// deadline comes due then, so that it ends in time.
const maxHeld = 24 * time.Hour

// Hold implements [scheduler.Store]. A held operation is a schedule like a parked
// one, because a schedule can be ended in the step that lets the operation out.
func (s *store) Hold(ctx context.Context, op *events.Operation, m scheduler.Message) error {
	if err := s.lanes.mark(ctx, op.Service, op.Operation); err != nil {
		return err
	}
	msg := &nats.Msg{
		Subject: s.subjects.Held(op.Priority, op.Service, op.Operation, op.ID),
		Data:    m.Data, Header: events.CarriedHeader(m.Header),
	}
	if err := op.Put(msg.Header); err != nil {
		return err
	}
	at := time.Now().Add(maxHeld)
	if !op.Deadline.IsZero() && op.Deadline.Before(at) {
		at = op.Deadline
	}
	fireAt(msg, at, s.subjects.Due(op.Priority, op.Service, op.Operation, op.ID))
	expect(msg, s.subjects.Slot(op.Service, op.Operation, op.ID), m.Version)
	if err := s.publish(ctx, "holding operation "+op.ID, msg); err != nil {
		return err
	}
	s.metrics.held.Add(ctx, 1, s.metrics.of(op).counted...)
	// The gate may have opened meanwhile.
	s.lanes.check(op.Service, op.Operation)
	return nil
}

// release lets a held operation out of its lane, in one step. It returns
// [scheduler.ErrMoved] when it is not there any more.
func (s *store) release(ctx context.Context, held *jetstream.RawStreamMsg) error {
	due, slot := s.subjects.Release(held.Subject)
	msg := &nats.Msg{Subject: due, Data: held.Data, Header: events.CarriedHeader(held.Header)}
	if state, ok := held.Header[events.HeaderState]; ok {
		msg.Header[events.HeaderState] = state
	}
	expect(msg, slot, held.Sequence)
	_, ours := held.Header[headerSchedule]
	if ours {
		endSchedule(msg, held.Subject)
	}
	err := s.publish(ctx, "letting out what is held on "+held.Subject, msg)
	if err != nil || ours {
		return err
	}
	// Somebody else published it there. It is buried as soon as it is due.
	return s.delete(ctx, "removing what stood on "+held.Subject, held.Sequence)
}

// fireAt makes msg a schedule.
func fireAt(msg *nats.Msg, at time.Time, target string) {
	msg.Header[headerSchedule] = []string{"@at " + at.UTC().Format(time.RFC3339Nano)}
	msg.Header[headerScheduleTarget] = []string{target}
}

// endSchedule makes the publishing of msg end the schedule on a subject.
func endSchedule(msg *nats.Msg, subject string) {
	msg.Header[headerScheduler] = []string{subject}
	msg.Header[headerScheduleNext] = []string{schedulePurge}
}

// expect makes the publishing of msg a compare-and-set.
func expect(msg *nats.Msg, slot string, version uint64) {
	msg.Header[jetstream.ExpectedLastSubjSeqHeader] = []string{strconv.FormatUint(version, 10)}
	msg.Header[jetstream.ExpectedLastSubjSeqSubjHeader] = []string{slot}
}

// Find implements [scheduler.Store]. It asks the stream's leader, because
// another replica might not know yet of what was just stored.
func (s *store) Find(ctx context.Context, op *events.Operation) (w scheduler.Waiting, ok bool, err error) {
	slot := s.subjects.Slot(op.Service, op.Operation, op.ID)
	err = s.persist(ctx, "looking for operation "+op.ID, func(ctx context.Context) error {
		w, ok = scheduler.Waiting{}, false
		m, err := streams.LeaderGet(ctx, s.js, s.streams.Waiting(), streams.LastBySubject(slot))
		if streams.IsGone(err) {
			return nil
		}
		if err != nil {
			return err
		}
		state, err := events.FromHeader(m.Header)
		if err != nil {
			return permanentError{fmt.Errorf("%w: %w", scheduler.ErrForeign, err)}
		}
		w = scheduler.Waiting{
			Version: m.Sequence, Place: m.Subject, Op: state, InFlight: s.subjects.IsDue(m.Subject) || state.Work != nil,
			Header: m.Header, Data: m.Data,
		}
		ok = true
		return nil
	})
	return w, ok, err
}

// Remove implements [scheduler.Store].
func (s *store) Remove(ctx context.Context, op *events.Operation, version uint64) error {
	return s.delete(ctx, "removing operation "+op.ID, version)
}

// delete removes a message of the stream of what waits, or returns
// [scheduler.ErrMoved].
func (s *store) delete(ctx context.Context, doing string, sequence uint64) error {
	return s.persist(ctx, doing, func(ctx context.Context) error {
		stream, err := s.js.Stream(ctx, s.streams.Waiting())
		if err != nil {
			return err
		}
		err = stream.DeleteMsg(ctx, sequence)
		if streams.IsGone(err) {
			return scheduler.ErrMoved
		}
		return err
	})
}

// Bury implements [scheduler.Store].
func (s *store) Bury(ctx context.Context, op *events.Operation, m scheduler.Message, reason events.Reason, detail string) error {
	d := events.DeadLetter{
		ID: op.ID, Service: op.Service, Operation: op.Operation, Reason: reason, Detail: detail,
		DiedAt: time.Now(), SubmittedTo: m.Subject, Header: m.Header, Data: m.Data,
	}
	if op.Attempt > 0 {
		d.State = op
	}
	msg, err := d.Message(s.subjects)
	if err != nil {
		return err
	}
	if room := s.maxPayload - headerRoom(msg.Header); int64(len(msg.Data)) > room {
		d.Truncated = len(msg.Data)
		d.Data = msg.Data[:max(room-64, 0)]
		if msg, err = d.Message(s.subjects); err != nil {
			return err
		}
	}
	if err := s.publish(ctx, "burying operation "+op.ID, msg); err != nil {
		return err
	}
	s.metrics.dead.Add(ctx, 1, s.metrics.of(op).counted...)
	return nil
}

// Ended implements [scheduler.Store].
func (s *store) Ended(ctx context.Context, op *events.Operation, outcome events.Outcome) error {
	if outcome.Outcome == events.RetryFailed {
		outcome.DeadLetter = s.subjects.Dead(op.Service, op.Operation, op.ID)
	}
	subject := s.subjects.Outcome(outcome.Outcome, op.Service, op.Operation)
	msg, err := events.Encode(subject, outcome.Outcome, op.OutcomeID(), outcome.About, outcome.EndedAt, outcome)
	if err != nil {
		return err
	}
	if err := s.publish(ctx, "publishing the outcome of operation "+op.ID, msg); err != nil {
		return err
	}
	s.metrics.ended(ctx, op, outcome)
	return nil
}

// Scheduled implements [scheduler.Store].
func (s *store) Scheduled(ctx context.Context, op *events.Operation, event events.Scheduled) error {
	subject := s.subjects.Event(events.RetryScheduled, op.Service, op.Operation)
	msg, err := events.Encode(subject, events.RetryScheduled, op.MessageID(events.RetryScheduled), event.About, time.Now(), event)
	if err != nil {
		return err
	}
	if err := s.publish(ctx, "publishing the decision on operation "+op.ID, msg); err != nil {
		return err
	}
	s.metrics.decided(ctx, op, events.Milliseconds(event.DelayMs))
	return nil
}

// publish stores a message and waits until it is acknowledged.
func (s *store) publish(ctx context.Context, doing string, msg *nats.Msg) error {
	return s.persist(ctx, doing, func(ctx context.Context) error {
		_, err := s.js.PublishMsg(ctx, msg)
		return err
	})
}

// permanentError marks an error that no repetition mends.
type permanentError struct{ error }

func (p permanentError) Unwrap() error { return p.error }

// persist calls do until it succeeds, fails for good, or ctx ends. What passes
// by itself, such as a server that is away or has no leader, is waited out.
func (s *store) persist(ctx context.Context, doing string, do func(context.Context) error) error {
	backoff := shortestBackoff
	for try := 1; ; try++ {
		callCtx, cancel := context.WithTimeout(ctx, publishTimeout)
		began := time.Now()
		err := do(callCtx)
		cancel()
		// A call that was given up took as long at least; one that ctx ended says nothing.
		if err == nil || errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			now := time.Now()
			s.delay.Add(now.Sub(began), now)
		}
		switch {
		case err == nil:
			return nil
		case errors.Is(err, scheduler.ErrMoved), hasCode(err, jetstream.JSErrCodeStreamWrongLastSequence, jetstream.JSErrCodeStreamWrongLastSequenceConstant):
			return scheduler.ErrMoved
		case errors.As(err, new(permanentError)), hasCode(err, codeMessageTooLarge, codeHeaderTooLarge),
			errors.Is(err, nats.ErrMaxPayload), errors.Is(err, nats.ErrConnectionClosed), ctx.Err() != nil:
			return fmt.Errorf("%s: %w", doing, err)
		}
		// A server that is away delays thousands at once.
		s.warn.Do(func() { s.log.Warn("storing is delayed", "doing", doing, "try", try, "error", err) })
		select {
		case <-time.After(backoff):
			backoff = min(2*backoff, longestBackoff)
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", doing, err)
		}
	}
}

// headerRoom is how many bytes a header takes of a message.
func headerRoom(h nats.Header) int64 {
	n := int64(len("NATS/1.0\r\n\r\n"))
	for k, values := range h {
		for _, v := range values {
			n += int64(len(k) + len(v) + len(": \r\n"))
		}
	}
	return n
}

// hasCode reports whether err is an API error with one of the codes.
func hasCode(err error, codes ...jetstream.ErrorCode) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && slices.Contains(codes, api.ErrorCode)
}
