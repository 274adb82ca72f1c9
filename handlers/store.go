package handlers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/time/rate"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/internal/deadletter"
	"github.com/rebound-mq/rebound/internal/natsconn"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/internal/telemetry"
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

	publishTimeout  = 5 * time.Second
	shortestBackoff = 50 * time.Millisecond
	longestBackoff  = 2 * time.Second
	// pendingBackoff is the first pause when another write is in process.
	pendingBackoff = 5 * time.Millisecond
)

// store keeps operations in JetStream. Its methods go on until what they store
// is acknowledged or ctx ends.
type store struct {
	js       jetstream.JetStream
	subjects events.Subjects
	streams  events.Streams
	// clock is the server's, by which whatever others see is timed.
	clock *natsconn.Clock
	log   *slog.Logger
	// warn bounds how often the log tells of delays.
	warn rate.Sometimes
	// maxPayload is the most bytes, headers included, that the server takes.
	maxPayload int64
	// lanes are told of what is held.
	lanes *lanes
	// elections tell what may have gone on although it seems to wait.
	elections *elections
	// storage is told how every try ends.
	storage *storage
	// delay is how long JetStream takes to answer.
	delay health.Delay
	// metrics counts what is stored.
	metrics *telemetry.Metrics
	// random is the source of jitter.
	random func() float64
}

var _ scheduler.Store = (*store)(nil)

// Place implements [scheduler.Store]. The operation's slot, the subjects on
// which it can stand, is a register that changes only by compare-and-set:
// the publish names the last sequence that it expects there.
func (s *store) Place(ctx context.Context, op *events.Operation, m scheduler.Message) error {
	msg := &nats.Msg{Data: m.Data, Header: wire.CarriedHeader(m.Header)}
	if err := wire.PutState(op, msg.Header); err != nil {
		return err
	}
	due := s.subjects.Due(op.Priority, op.Service, op.Operation, op.ID)
	parked := s.clock.Until(op.Due) >= scheduler.ShortDelay
	if !parked {
		msg.Subject = due
	} else {
		msg.Subject = s.subjects.Parked(op.Priority, op.Service, op.Operation, op.ID)
		fireAt(msg, op.Due.Add(-scheduler.EarlyArming), due)
	}
	expect(msg, s.subjects.Slot(op.Service, op.Operation, op.ID), m.Version)
	if m.Place != "" && m.Place != msg.Subject && !s.subjects.IsDue(m.Place) {
		endSchedule(msg, m.Place)
	}
	if m.Name != "" {
		// The slot may look as it did before the operation came and ended.
		msg.Header[jetstream.MsgIDHeader] = []string{op.Run() + "." + m.Name}
	}
	ack, err := s.change(ctx, "parking operation "+op.ID, op, m, msg)
	if err == nil && ack.Duplicate {
		return scheduler.ErrTaken
	}
	if err == nil && parked {
		s.metrics.Parked(ctx, op)
	}
	return err
}

// Watch implements [scheduler.Store]. The watchdog is a schedule on the subject on
// which the operation is parked; it fires within 250 ms after its time. A publish
// whose acknowledgement got lost is recognised by its token and time.
func (s *store) Watch(ctx context.Context, op *events.Operation, m scheduler.Message) (scheduler.Message, error) {
	msg := &nats.Msg{
		Subject: s.subjects.Parked(op.Priority, op.Service, op.Operation, op.ID),
		Data:    m.Data, Header: wire.CarriedHeader(m.Header),
	}
	if err := wire.PutState(op, msg.Header); err != nil {
		return m, err
	}
	fireAt(msg, op.Due, s.subjects.Due(op.Priority, op.Service, op.Operation, op.ID))
	expect(msg, s.subjects.Slot(op.Service, op.Operation, op.ID), m.Version)
	ack, err := s.change(ctx, "watching over operation "+op.ID, op, m, msg)
	if err == nil {
		m.Version, m.Place = ack.Sequence, msg.Subject
	}
	if !errors.Is(err, scheduler.ErrMoved) {
		return m, err
	}
	w, found, findErr := s.Find(ctx, op)
	if findErr == nil && found && w.Op.Work != nil && w.Op.Work.Knows(op.Work.Token) && w.Op.Work.Result == nil && w.Op.Due.Equal(op.Due) {
		m.Version, m.Place, m.Stored = w.Version, w.Place, w.Stored
		return m, nil
	}
	return m, errors.Join(err, findErr)
}

// change puts op's next state, which msg carries, in the place of a version. The
// slot is no register while it is not known what became of a try: the state may have
// been stored, the run may have ended since, and the slot looks as before. So what a
// later try stores is a fork, and contested what is stored when another may have the
// operation by then.
func (s *store) change(ctx context.Context, doing string, op *events.Operation, m scheduler.Message, msg *nats.Msg) (ack *jetstream.PubAck, err error) {
	unknown := false
	err = s.persist(ctx, doing, func(ctx context.Context) error {
		forked := unknown && op.Repeats != events.AnyAttempt
		if forked || op.Contested.IsZero() && m.Shared != nil && m.Shared() {
			op.Contest(m.Stored)
			if forked {
				op.Fork(m.Stored)
			}
			if err := wire.PutState(op, msg.Header); err != nil {
				return permanentError{err}
			}
		}
		ack, err = s.js.PublishMsg(ctx, msg)
		unknown = unknown || answerOf(err) == answerUnknown
		return err
	})
	return ack, err
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
		Data:    m.Data, Header: wire.CarriedHeader(m.Header),
	}
	if err := wire.PutState(op, msg.Header); err != nil {
		return err
	}
	at := s.clock.Now().Add(maxHeld)
	if !op.Deadline.IsZero() && op.Deadline.Before(at) {
		at = op.Deadline
	}
	fireAt(msg, at, s.subjects.Due(op.Priority, op.Service, op.Operation, op.ID))
	expect(msg, s.subjects.Slot(op.Service, op.Operation, op.ID), m.Version)
	if _, err := s.change(ctx, "holding operation "+op.ID, op, m, msg); err != nil {
		return err
	}
	s.metrics.Held(ctx, op)
	// The gate may have opened meanwhile.
	s.lanes.check(op.Service, op.Operation)
	return nil
}

// release makes what is held or parked due, in one step. It returns
// [scheduler.ErrMoved] when it is not there any more. What the server may be firing at
// this moment is contested, and what may have gone on long ago, as far as is known of
// the server at a moment or later.
func (s *store) release(ctx context.Context, held *jetstream.RawStreamMsg, moment time.Time) error {
	due, slot := s.subjects.Release(held.Subject)
	msg := &nats.Msg{Subject: due, Data: held.Data, Header: wire.CarriedHeader(held.Header)}
	for _, name := range []string{events.HeaderState, events.HeaderWork} {
		if state, ok := held.Header[name]; ok {
			msg.Header[name] = state
		}
	}
	expect(msg, slot, held.Sequence)
	_, ours := held.Header[headerSchedule]
	if ours {
		endSchedule(msg, held.Subject)
	}
	if s.clock.Now().Sub(held.Time) > youngest && s.elections.doubts(ctx, held.Time, moment) {
		if err := rewrite(msg, func(op *events.Operation) { op.Contest(held.Time) }); err != nil {
			return err
		}
	}
	at, fired := fires(held)
	err := s.persist(ctx, "letting out what is held on "+held.Subject, func(ctx context.Context) error {
		if fired && s.clock.Until(at) < scheduler.NearFiring {
			fired = false
			since := s.clock.Now().Add(-scheduler.NearFiring)
			if err := rewrite(msg, func(op *events.Operation) { scheduler.Share(op, since) }); err != nil {
				return permanentError{err}
			}
		}
		_, err := s.js.PublishMsg(ctx, msg)
		return err
	})
	if err != nil || ours {
		return err
	}
	// Somebody else published it there. It is buried as soon as it is due.
	return s.delete(ctx, "removing what stood on "+held.Subject, held.Sequence)
}

// rewrite changes the operation that msg carries. What carries none is buried as soon as
// it is due.
func rewrite(msg *nats.Msg, how func(*events.Operation)) error {
	op, foreign := wire.ReadState(msg.Header)
	if foreign == nil {
		how(op)
		return wire.PutState(op, msg.Header)
	}
	return nil
}

// clear removes what stands on a lane in an older version than its slot, which the
// stream's leader must say. Nothing else is removed; ok is whether it was.
func (s *store) clear(ctx context.Context, m *jetstream.RawStreamMsg) (ok bool, err error) {
	_, slot := s.subjects.Release(m.Subject)
	var newer bool
	err = s.persist(ctx, "looking for a newer version than on "+m.Subject, func(ctx context.Context) error {
		last, err := streams.LeaderGet(ctx, s.js, s.streams.Waiting(), streams.LastBySubject(slot))
		if streams.IsGone(err) {
			return nil
		}
		newer = err == nil && last.Sequence > m.Sequence && !earlierRun(last, m)
		return err
	})
	if err != nil || !newer {
		return false, err
	}
	err = s.delete(ctx, "removing a left-over on "+m.Subject, m.Sequence)
	return err == nil, ignoreMoved(err)
}

// earlierRun tells whether one message carries an earlier run of an operation than
// another.
func earlierRun(one, other *jetstream.RawStreamMsg) bool {
	earlier, foreign := wire.ReadState(one.Header)
	if foreign != nil {
		return false
	}
	later, foreign := wire.ReadState(other.Header)
	return foreign == nil && earlier.Replay < later.Replay
}

// ignoreMoved drops the error that what was to be removed is not there any more.
func ignoreMoved(err error) error {
	if errors.Is(err, scheduler.ErrMoved) {
		return nil
	}
	return err
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
		state, err := wire.ReadState(m.Header)
		if err != nil {
			return permanentError{fmt.Errorf("%w: %w", scheduler.ErrForeign, err)}
		}
		w = scheduler.Waiting{
			Version: m.Sequence, Place: m.Subject, Stored: m.Time, Op: state, InFlight: s.subjects.IsDue(m.Subject) || state.Work != nil,
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
		DiedAt: s.clock.Now(), SubmittedTo: m.Subject, Header: m.Header, Data: m.Data,
	}
	if op.Attempt > 0 {
		d.State = op
	}
	msg, err := wire.EncodeDeadLetter(s.subjects, &d)
	if err != nil {
		return err
	}
	if room := s.maxPayload - wire.HeaderSize(msg.Header); int64(len(msg.Data)) > room {
		d.Truncated = len(msg.Data)
		d.Data = msg.Data[:max(room-64, 0)]
		if msg, err = wire.EncodeDeadLetter(s.subjects, &d); err != nil {
			return err
		}
	}
	// One that arrives late must not come back after it was replayed.
	msg.Header[jetstream.MsgIDHeader] = []string{op.Run() + ".dead"}
	if err := s.publish(ctx, "burying operation "+op.ID, msg); err != nil {
		return err
	}
	s.metrics.DeadLettered(ctx, op)
	return nil
}

// Ended implements [scheduler.Store].
func (s *store) Ended(ctx context.Context, op *events.Operation, m scheduler.Message, outcome events.Outcome) error {
	if outcome.Outcome == events.RetryFailed {
		outcome.DeadLetter = s.subjects.Dead(op.Service, op.Operation, op.ID)
	}
	subject := s.subjects.Outcome(outcome.Outcome, op.Service, op.Operation)
	msg, err := wire.EncodeEvent(subject, wire.Event{Name: outcome.Outcome, ID: op.OutcomeID(), About: outcome.About, Time: outcome.EndedAt, Data: outcome})
	if err != nil {
		return err
	}
	var first time.Time
	var ack *jetstream.PubAck
	err = s.persist(ctx, "publishing the outcome of operation "+op.ID, func(ctx context.Context) error {
		now := time.Now()
		if first.IsZero() {
			first = now
		}
		// What an earlier try stored is not recognised for ever.
		if late := now.Sub(first) > events.DedupWindow/2; late || now.After(first) && m.Shared != nil && m.Shared() {
			return permanentError{scheduler.ErrShared}
		}
		ack, err = s.js.PublishMsg(ctx, msg)
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
	s.metrics.Ended(ctx, op, outcome)
	return nil
}

// withdraw removes the dead letter of a run when the outcome with that sequence, which
// another holder told first, is that it succeeded.
func (s *store) withdraw(ctx context.Context, op *events.Operation, told uint64) error {
	letters, success := deadletter.New(s.js, s.subjects.Prefix), s.subjects.Outcome(events.RetrySuccess, op.Service, op.Operation)
	return s.persist(ctx, "looking for what was told of operation "+op.ID, func(ctx context.Context) error {
		m, gone, err := streams.GetAt(ctx, s.js, s.streams.Outcomes(), told)
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
func (s *store) Scheduled(ctx context.Context, op *events.Operation, event events.Scheduled) error {
	subject := s.subjects.Event(events.RetryScheduled, op.Service, op.Operation)
	msg, err := wire.EncodeEvent(subject, wire.Event{Name: events.RetryScheduled, ID: op.MessageID(events.RetryScheduled), About: event.About, Time: s.clock.Now(), Data: event})
	if err != nil {
		return err
	}
	if err := s.publish(ctx, "publishing the decision on operation "+op.ID, msg); err != nil {
		return err
	}
	s.metrics.Decided(ctx, op, events.Milliseconds(event.DelayMs))
	return nil
}

// publish stores a message and waits until it is acknowledged.
func (s *store) publish(ctx context.Context, doing string, msg *nats.Msg) error {
	return s.persist(ctx, doing, func(ctx context.Context) error {
		_, err := s.js.PublishMsg(ctx, msg)
		return err
	})
}

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
		s.storage.seen(err)
		wait := backoff
		switch answerOf(err) {
		case answerDone:
			return nil
		case answerMoved:
			return scheduler.ErrMoved
		case answerNever:
			return fmt.Errorf("%s: %w", doing, err)
		case answerPending:
			wait = min(pendingBackoff<<min(try-1, 8), longestBackoff)
		case answerNotNow, answerUnknown:
			if ctx.Err() != nil {
				return fmt.Errorf("%s: %w", doing, err)
			}
			// A server that is away delays thousands at once.
			s.warn.Do(func() { s.log.Warn("storing is delayed", "doing", doing, "try", try, "error", err) })
			backoff = min(2*backoff, longestBackoff)
		}
		select {
		case <-time.After(wait/2 + time.Duration(s.random()*float64(wait))):
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", doing, err)
		}
	}
}
