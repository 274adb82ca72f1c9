package opstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/internal/inbox"
	"github.com/rebound-mq/rebound/internal/natsconn"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/scheduler"
)

// Store keeps operations in JetStream. Its methods retry until their write is acknowledged
// or ctx ends. It is safe for concurrent use.
type Store struct {
	*Persister
	js        jetstream.JetStream
	publisher Publisher
	subjects  events.Subjects
	streams   events.Streams
	// clock is the server's, by which everything that others see is timed.
	clock      *natsconn.Clock
	maxPayload int64
	lanes      Lanes
	elections  *Elections
	meter      Meter
	burials    *Burials
	// outcomes and letters publish to the streams that plain subscribers may follow.
	outcomes, letters *teller
}

// Config configures a [Store].
type Config struct {
	// Prefix is the first token of every subject, [events.DefaultPrefix] when empty.
	Prefix string
	// Publisher publishes within a timeout of its own; JetStream itself, which has one too, when
	// nil.
	Publisher Publisher
	// Clock is the server's; the host's when nil.
	Clock *natsconn.Clock
	// MaxPayload is the server's largest message, headers included, in bytes.
	MaxPayload int64
	// Lanes are informed of held operations; nil if none will be held.
	Lanes Lanes
	// Elections know which waiting operations may have gone on; nil trusts the server.
	Elections *Elections
	// Meter counts what is stored; nil counts nothing.
	Meter Meter
	// Burials log the dead letters; nil logs none.
	Burials *Burials
}

// Publisher publishes messages to streams and waits until they are acknowledged, as
// [jetstream.JetStream] does.
type Publisher interface {
	PublishMsg(ctx context.Context, msg *nats.Msg, options ...jetstream.PublishOpt) (*jetstream.PubAck, error)
	// PublishBoth is that of [inbox.Publisher].
	PublishBoth(ctx context.Context, first, next *nats.Msg) inbox.Answers
}

// InTurn is the [Publisher] that publishes by JetStream itself, one message after the other.
type InTurn struct{ jetstream.JetStream }

// PublishBoth implements [Publisher].
func (i InTurn) PublishBoth(ctx context.Context, first, next *nats.Msg) (a inbox.Answers) {
	if a.Ack, a.Err = i.PublishMsg(ctx, first); a.Err == nil && !a.Ack.Duplicate {
		a.Followed = true
		_, a.NextErr = i.PublishMsg(ctx, next)
	}
	return a
}

// Lanes know the keys with held operations.
type Lanes interface {
	// Mark makes sure that every instance, now and later, knows that a key has lanes. It
	// is called before an operation is held.
	Mark(ctx context.Context, service, operation string) error
	// Check makes the lanes of a key be checked soon.
	Check(service, operation string)
}

// Meter counts what is stored.
type Meter interface {
	Parked(ctx context.Context, op *events.Operation)
	Held(ctx context.Context, op *events.Operation)
	DeadLettered(ctx context.Context, op *events.Operation)
	// Decided measures a delay that was decided on.
	Decided(ctx context.Context, op *events.Operation, delay time.Duration)
	Ended(ctx context.Context, op *events.Operation, outcome events.Outcome)
}

// unmetered is the [Meter] that counts nothing.
type unmetered struct{}

func (unmetered) Parked(context.Context, *events.Operation)                 {}
func (unmetered) Held(context.Context, *events.Operation)                   {}
func (unmetered) DeadLettered(context.Context, *events.Operation)           {}
func (unmetered) Decided(context.Context, *events.Operation, time.Duration) {}
func (unmetered) Ended(context.Context, *events.Operation, events.Outcome)  {}

// New returns a store whose calls persister repeats.
func New(js jetstream.JetStream, persister *Persister, config Config) *Store {
	s := &Store{
		Persister: persister, js: js, subjects: events.Subjects{Prefix: config.Prefix}, streams: events.Streams{Prefix: config.Prefix},
		clock: config.Clock, maxPayload: config.MaxPayload, lanes: config.Lanes, elections: config.Elections, meter: config.Meter,
		burials: config.Burials, publisher: config.Publisher,
	}
	if s.publisher == nil {
		s.publisher = InTurn{JetStream: js}
	}
	if s.clock == nil {
		s.clock = natsconn.NewClock(nil)
	}
	if s.meter == nil {
		s.meter = unmetered{}
	}
	s.outcomes = &teller{js: js, publisher: s.publisher, stream: s.streams.Outcomes(), storage: persister.storage, probe: s.probe}
	s.letters = &teller{js: js, publisher: s.publisher, stream: s.streams.Dead(), storage: persister.storage, probe: s.probe}
	return s
}

var _ scheduler.Store = (*Store)(nil)

// Place implements [scheduler.Store]. The operation's slot, the subjects on which it can
// be, is a register that changes only by compare-and-set: the publish names the last
// sequence that it expects there.
func (s *Store) Place(ctx context.Context, op *events.Operation, m scheduler.Message) error {
	_, err := s.place(ctx, op, m, nil)
	return err
}

// Schedule implements [scheduler.Store].
func (s *Store) Schedule(ctx context.Context, op *events.Operation, m scheduler.Message, event events.Scheduled) error {
	decision, err := s.encodeScheduled(op, event)
	if err != nil {
		return err
	}
	c, err := s.place(ctx, op, m, decision)
	if c.unknown && (errors.Is(err, scheduler.ErrMoved) || errors.Is(err, scheduler.ErrTaken)) {
		w, found, findErr := s.Find(ctx, op)
		if findErr != nil {
			return findErr
		}
		if found && isSameState(w.Op, op) {
			err = nil // an earlier try stored it, and its answer was lost
		}
	}
	switch {
	case err != nil:
		return err
	case !c.told:
		return s.Scheduled(ctx, op, event)
	}
	s.meter.Decided(ctx, op, events.Milliseconds(event.DelayMs))
	return nil
}

// isSameState reports whether two states of an operation wait for the same attempt until the same
// time, which no two decisions agree on.
func isSameState(a, b *events.Operation) bool {
	return a.Replay == b.Replay && a.Attempt == b.Attempt && a.Due.Equal(b.Due)
}

// place is [Store.Place]. Unless event is nil, it is published once the operation is stored.
func (s *Store) place(ctx context.Context, op *events.Operation, m scheduler.Message, event *nats.Msg) (c changed, err error) {
	msg, err := carry(op, m)
	if err != nil {
		return c, err
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
		// The operation may have ended since, which leaves the slot empty as before.
		msg.Header[jetstream.MsgIDHeader] = []string{op.RunID(m.Name)}
	}
	c, err = s.change(ctx, "parking operation "+op.ID, op, m, msg, event)
	if err == nil && c.ack.Duplicate {
		return c, scheduler.ErrTaken
	}
	if err == nil && parked {
		s.meter.Parked(ctx, op)
	}
	return c, err
}

// Watch implements [scheduler.Store]. The watchdog is a schedule on the parked subject of
// the operation; it fires within 250 ms after its time. A publish whose acknowledgement
// got lost is recognised by its token and time.
func (s *Store) Watch(ctx context.Context, op *events.Operation, m scheduler.Message) (scheduler.Message, error) {
	msg, err := carry(op, m)
	if err != nil {
		return m, err
	}
	msg.Subject = s.subjects.Parked(op.Priority, op.Service, op.Operation, op.ID)
	fireAt(msg, op.Due, s.subjects.Due(op.Priority, op.Service, op.Operation, op.ID))
	expect(msg, s.subjects.Slot(op.Service, op.Operation, op.ID), m.Version)
	c, err := s.change(ctx, "watching over operation "+op.ID, op, m, msg, nil)
	if err == nil {
		m.Version, m.Place = c.ack.Sequence, msg.Subject
	}
	if !errors.Is(err, scheduler.ErrMoved) {
		return m, err
	}
	w, found, findErr := s.Find(ctx, op)
	if findErr == nil && found && w.Op.Work != nil && w.Op.Work.HasToken(op.Work.Token) && w.Op.Work.Result == nil && w.Op.Due.Equal(op.Due) {
		m.Version, m.Place, m.Stored = w.Version, w.Place, w.Stored
		return m, nil
	}
	return m, errors.Join(err, findErr)
}

// carry returns a message with an operation and its submission.
func carry(op *events.Operation, m scheduler.Message) (*nats.Msg, error) {
	msg := &nats.Msg{Data: m.Data, Header: wire.CarriedHeader(m.Header)}
	wire.HideStatus(msg)
	return msg, wire.PutState(op, msg.Header)
}

// changed is what is known of a state that was to be stored.
type changed struct {
	ack *jetstream.PubAck
	// told is whether the event that follows it is known to be stored too.
	told bool
	// unknown is whether the effect of a try is not known, so that the state may be stored
	// although a later try was refused.
	unknown bool
}

// change stores op's next state, which msg carries, in place of a version. While the effect
// of a try is not known the slot is not a register: the state may have been stored and the
// run may have ended, and the slot looks as before. So the state that a later try stores is
// a fork, and it is shared if another holder may have the operation by then. A submission is
// not: its message id allows for one operation only. Unless event is nil, the teller of outcomes
// publishes it afterwards.
func (s *Store) change(ctx context.Context, doing string, op *events.Operation, m scheduler.Message, msg, event *nats.Msg) (c changed, err error) {
	err = s.repeatCalls(ctx, doing, func(ctx context.Context) (calls int, err error) {
		repeats, contested := op.Repeats, op.Contested
		switch {
		case c.unknown:
			op.Fork(m.Stored)
		case m.Shared == nil || !m.Shared():
		case m.Name != "":
			op.Contest(m.Stored)
		default:
			scheduler.Share(op, m.Stored)
		}
		if op.Repeats != repeats || !op.Contested.Equal(contested) {
			if err := wire.PutState(op, msg.Header); err != nil {
				return 1, permanentError{err}
			}
		}
		c.ack, c.told, err = s.outcomes.publishAfter(ctx, msg, event)
		c.unknown = c.unknown || answerOf(err) == answerUnknown
		if c.told {
			return 2, nil
		}
		return 1, err
	})
	return c, err
}

// maxHeld is how long an operation is held before it comes due by itself, whatever its gate
// says, as a last resort.
const maxHeld = 24 * time.Hour

// Hold implements [scheduler.Store]. A held operation is a schedule like a parked one,
// because the step that lets the operation out can end a schedule.
func (s *Store) Hold(ctx context.Context, op *events.Operation, m scheduler.Message, until time.Time) error {
	if err := s.lanes.Mark(ctx, op.Service, op.Operation); err != nil {
		return err
	}
	msg, err := carry(op, m)
	if err != nil {
		return err
	}
	msg.Subject = s.subjects.Held(op.Priority, op.Service, op.Operation, op.ID)
	at := s.clock.Now().Add(maxHeld)
	if !until.IsZero() && until.Before(at) {
		at = until
	}
	fireAt(msg, at, s.subjects.Due(op.Priority, op.Service, op.Operation, op.ID))
	expect(msg, s.subjects.Slot(op.Service, op.Operation, op.ID), m.Version)
	if _, err := s.change(ctx, "holding operation "+op.ID, op, m, msg, nil); err != nil {
		return err
	}
	s.meter.Held(ctx, op)
	// The gate may have opened meanwhile.
	s.lanes.Check(op.Service, op.Operation)
	return nil
}

// ContestFired contests an operation that the server fired if it may have gone on long ago:
// a server that was killed may fire a schedule again. One that was fired late is shared,
// because the server that led before may have fired it in time, and its holder be at it still.
func (s *Store) ContestFired(ctx context.Context, op *events.Operation, m scheduler.Message) {
	fired := wire.HeaderValue(m.Header, HeaderScheduler)
	if op.Work != nil || fired == "" || fired != s.subjects.Parked(op.Priority, op.Service, op.Operation, op.ID) {
		return // it was not fired, or is contested already
	}
	var moment time.Time
	late := m.Stored.Sub(op.Due.Add(-scheduler.EarlyArming)) > Youngest
	if late {
		moment = time.Now() // a leader that is not known yet may have fired it
	}
	switch since := op.WaitingSince(); {
	case !s.elections.Doubts(ctx, since, moment):
	case late:
		scheduler.Share(op, since)
	default:
		op.Contest(since)
	}
}

// Find implements [scheduler.Store]. It asks the stream's leader, because another replica
// might not have the latest writes.
func (s *Store) Find(ctx context.Context, op *events.Operation) (w scheduler.Waiting, ok bool, err error) {
	slot := s.subjects.Slot(op.Service, op.Operation, op.ID)
	err = s.Persist(ctx, "looking for operation "+op.ID, func(ctx context.Context) error {
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
func (s *Store) Remove(ctx context.Context, op *events.Operation, version uint64) error {
	return s.delete(ctx, "removing operation "+op.ID, version)
}

// delete removes a message of the stream of waiting operations, or returns
// [scheduler.ErrMoved].
func (s *Store) delete(ctx context.Context, doing string, sequence uint64) error {
	return s.Persist(ctx, doing, func(ctx context.Context) error {
		err := streams.Delete(ctx, s.js, s.streams.Waiting(), sequence)
		if streams.IsGone(err) {
			return scheduler.ErrMoved
		}
		return err
	})
}

// Publish stores an event in the stream of outcomes and waits until it is acknowledged.
func (s *Store) Publish(ctx context.Context, doing string, msg *nats.Msg) error {
	return s.repeat(ctx, doing, func(ctx context.Context) error {
		_, err := s.outcomes.publish(ctx, msg)
		return err
	})
}
