package opstore

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/scheduler"
)

// releasers is how many messages are released at once.
const releasers = 64

// ReleaseAll releases messages in parallel by [Store.Release] and returns how many. A
// message that is no longer there is not an error.
func (s *Store) ReleaseAll(ctx context.Context, messages []*jetstream.RawStreamMsg, moment time.Time) (released int, err error) {
	var count atomic.Int64
	var group errgroup.Group
	group.SetLimit(releasers)
	for _, m := range messages {
		group.Go(func() error {
			err := s.Release(ctx, m, moment)
			if err == nil {
				count.Add(1)
			}
			return ignoreMoved(err)
		})
	}
	err = group.Wait()
	return int(count.Load()), err
}

// Release makes a held or parked operation due, in one step. It returns
// [scheduler.ErrMoved] if the operation is no longer there. It contests an operation that
// the server may be firing now, or that may have gone on long ago; see [Elections.Doubts]
// for moment.
func (s *Store) Release(ctx context.Context, held *jetstream.RawStreamMsg, moment time.Time) error {
	msg, slot := s.asDue(held)
	expect(msg, slot, held.Sequence)
	ours := wire.HeaderValue(held.Header, jetstream.ScheduleHeader) != ""
	if ours {
		endSchedule(msg, held.Subject)
	}
	if s.clock.Now().Sub(held.Time) > Youngest && s.elections.Doubts(ctx, held.Time, moment) {
		if err := rewrite(msg, func(op *events.Operation) { op.Contest(held.Time) }); err != nil {
			return err
		}
	}
	if err := s.letOut(ctx, held, msg); err != nil || ours {
		return err
	}
	// Somebody else published it there. It is buried once it is due.
	return s.delete(ctx, "removing the message on "+held.Subject, held.Sequence)
}

// asDue returns the message that makes a held or parked operation due, and its slot.
func (s *Store) asDue(held *jetstream.RawStreamMsg) (msg *nats.Msg, slot string) {
	due, slot := s.subjects.Release(held.Subject)
	msg = &nats.Msg{Subject: due, Data: held.Data, Header: wire.CarriedHeader(held.Header)}
	wire.HideStatus(msg)
	for _, name := range []string{events.HeaderState, events.HeaderWork} {
		if state := wire.HeaderValue(held.Header, name); state != "" {
			msg.Header[name] = []string{state}
		}
	}
	return msg, slot
}

// letOut publishes the message that makes a held or parked operation due. Once the server
// may be firing it too, the operation is shared.
func (s *Store) letOut(ctx context.Context, held *jetstream.RawStreamMsg, msg *nats.Msg) error {
	at, fires := FiresAt(held)
	return s.repeat(ctx, "letting out the operation on "+held.Subject, func(ctx context.Context) error {
		if fires && s.clock.Until(at) < scheduler.NearFiring {
			fires = false
			since := s.clock.Now().Add(-scheduler.NearFiring)
			if err := rewrite(msg, func(op *events.Operation) { scheduler.Share(op, since) }); err != nil {
				return permanentError{err}
			}
		}
		_, err := s.publisher.PublishMsg(ctx, msg)
		return err
	})
}

// rewrite changes the operation that msg carries. A message without one is buried once it
// is due.
func rewrite(msg *nats.Msg, how func(*events.Operation)) error {
	op, foreign := wire.ReadState(msg.Header)
	if foreign == nil {
		how(op)
		return wire.PutState(op, msg.Header)
	}
	return nil
}

// Clear removes a message from its lane if the stream's leader has a newer version in the
// slot. ok is whether it was removed.
func (s *Store) Clear(ctx context.Context, m *jetstream.RawStreamMsg) (ok bool, err error) {
	_, slot := s.subjects.Release(m.Subject)
	var newer bool
	err = s.Persist(ctx, "looking for a newer version than on "+m.Subject, func(ctx context.Context) error {
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

// earlierRun reports whether one message carries an earlier run of an operation than
// another.
func earlierRun(one, other *jetstream.RawStreamMsg) bool {
	earlier, foreign := wire.ReadState(one.Header)
	if foreign != nil {
		return false
	}
	later, foreign := wire.ReadState(other.Header)
	return foreign == nil && earlier.Replay < later.Replay
}

// ignoreMoved drops the error that something is no longer there to be removed.
func ignoreMoved(err error) error {
	if errors.Is(err, scheduler.ErrMoved) {
		return nil
	}
	return err
}
