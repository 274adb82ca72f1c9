package lanes

import (
	"context"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/internal/backoff"
)

const (
	// earlyPage is how many parked operations are read at once.
	earlyPage = 1024
	// earlyWorth is what an operation must have left to wait for an early release to
	// be worth its write. It keeps clear of the moment at which the server fires it,
	// too: in a cluster a compare-and-set does not see that while it is in process.
	earlyWorth = 2 * time.Second
	// earlySlowest is how often at least the governor is asked while it has no room,
	// and earlyPatience for how long: what is parked comes by itself when it is due.
	earlySlowest  = time.Second
	earlyPatience = time.Minute
)

// earlier is what is parked of a key whose breaker has closed.
type earlier struct {
	before  time.Time       // what was parked before that may come early
	all     []*pages        // of the priorities of which some may be left
	idle    backoff.Backoff // between questions to the governor while it has no room
	refused time.Time       // since when it has no room; zero is not now
}

// early lets some parked operations of a key out before they are due, the most
// urgent and of those the ones that were parked first, as far as the governor allows.
// It spares what waits because its target asked for it, and what a worker has. It
// returns when there may be more to do; until then the lanes of the key are looked at
// like all others, and what is held goes first.
func (l *Lanes) early(ctx context.Context, k *keyLanes) (next time.Time, err error) {
	now := l.now()
	k.flow.begin(now)
	k.flow.arrived(l.room(k, events.Normal, now), now)
	n, before, ever := l.gates.Early(l.policy(k), k.service, k.operation, k.flow.coming, now)
	if !ever {
		k.parked = nil
		return next, nil
	}
	if k.parked == nil || !k.parked.before.Equal(before) {
		k.parked = l.parked(k, before)
	}
	e := k.parked
	switch {
	case len(e.all) == 0:
		return next, nil
	case n <= 0:
		return e.wait(now), nil
	}
	e.idle.Reset()
	e.refused = time.Time{}
	page, more, err := e.all[0].stretched(ctx, n, before, now.UTC())
	if err != nil {
		return next, err
	}
	moved, err := l.move(ctx, page)
	k.flow.released(moved, l.now())
	if err != nil {
		return next, err
	}
	if !more {
		e.all = slices.Delete(e.all, 0, 1)
	}
	return l.now().Add(pollEvery), nil
}

// parked returns all that is parked of a key.
func (l *Lanes) parked(k *keyLanes, before time.Time) *earlier {
	e := &earlier{before: before, idle: polls(2*pollEvery, earlySlowest)}
	for _, p := range events.Priorities {
		parked := l.pages(l.subjects.ParkedOfKey(p, k.service, k.operation))
		e.all = append(e.all, &parked)
	}
	return e
}

// wait returns when to ask the governor again, zero when it had no room for long.
func (e *earlier) wait(now time.Time) time.Time {
	switch {
	case e.refused.IsZero():
		e.refused = now
	case now.Sub(e.refused) > earlyPatience:
		e.all = nil
		return time.Time{}
	}
	return now.Add(e.idle.Next())
}

// stretched takes up to n parked operations that were parked before a time and may
// come earlier, reading one page at most. more is false at the end.
func (p *pages) stretched(ctx context.Context, n int, before, now time.Time) (taken []*jetstream.RawStreamMsg, more bool, err error) {
	if len(p.page) == 0 {
		if err := p.next(ctx, earlyPage); err != nil || len(p.page) == 0 {
			return nil, false, err
		}
	}
	for len(taken) < n {
		next := p.take(1)
		if len(next) == 0 {
			return taken, true, nil
		}
		m := next[0]
		if !m.Time.Before(before) {
			return taken, false, nil
		}
		early, err := hasten(m, now)
		if err != nil {
			return nil, false, err
		}
		if early {
			taken = append(taken, m)
		}
	}
	return taken, true, nil
}

// hasten makes the operation of a message due now, if it waits for long enough to be
// worth it, and neither for a worker nor because its target asked for that.
func hasten(m *jetstream.RawStreamMsg, now time.Time) (ok bool, err error) {
	op, foreign := wire.ReadState(m.Header)
	if foreign != nil || op.Work != nil || op.RetryAfter.After(now) || op.Due.Sub(now) <= earlyWorth {
		return false, nil
	}
	op.Due = now
	return true, wire.PutState(op, m.Header)
}
