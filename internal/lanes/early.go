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
	// earlyWorth is how long an operation must still have to wait for an early release to
	// be worth its write. It also keeps clear of the moment at which the server fires the
	// schedule: in a cluster a compare-and-set does not see that while it is in process.
	earlyWorth = 2 * time.Second
	// earlySlowest is the longest pause between requests to the governor while it allows
	// nothing, and earlyPatience how long to go on: parked operations come due anyway.
	earlySlowest  = time.Second
	earlyPatience = time.Minute
)

// backlog holds the parked operations of a key whose breaker has closed.
type backlog struct {
	before  time.Time       // only what was parked before this may come early
	all     []parked        // of the priorities that may have some left
	idle    backoff.Backoff // while the governor allows nothing
	refused time.Time       // since when it allows nothing; zero when it does
}

// parked are the parked operations of one priority.
type parked struct {
	priority events.Priority
	pages
}

// early lets some parked operations of a key out before they are due, the most urgent
// and oldest first, as far as the governor allows. It spares those whose target asked to
// wait and those that a worker has. It returns when there may be more to do; until then
// the key is treated like all others, and held operations go first.
func (l *Lanes) early(ctx context.Context, k *keyLanes) (next time.Time, err error) {
	now := l.now()
	k.flow.begin(now)
	k.flow.arrived(l.quota(k, events.Normal, now), now)
	n, before, ever := l.gates.Early(l.policy(k), k.service, k.operation, k.parked.first(), k.flow.onTheWay(), now)
	if !ever {
		k.parked = nil
		return next, nil
	}
	if k.parked == nil || !k.parked.before.Equal(before) {
		k.parked = l.parked(k, before)
	}
	e := k.parked
	if len(e.all) == 0 {
		return next, nil
	}
	l.gates.Backlog(k.service, k.operation)
	if n <= 0 {
		return e.wait(now), nil
	}
	e.idle.Reset()
	e.refused = time.Time{}
	page, more, err := e.all[0].takeEarly(ctx, n, before, now.UTC())
	if err == nil {
		var moved int
		moved, err = l.move(ctx, page)
		k.flow.released(moved, l.now())
	}
	if err != nil {
		k.parked = nil // what was taken may still be parked
		return next, err
	}
	if !more {
		e.all = slices.Delete(e.all, 0, 1)
	}
	return l.now().Add(pollEvery), nil
}

// parked returns the backlog of a key.
func (l *Lanes) parked(k *keyLanes, before time.Time) *backlog {
	e := &backlog{before: before, idle: polls(2*pollEvery, earlySlowest)}
	for _, p := range events.Priorities {
		e.all = append(e.all, parked{p, l.pages(l.subjects.ParkedOfKey(p, k.service, k.operation))})
	}
	return e
}

// first returns the most urgent priority that may have some left.
func (e *backlog) first() events.Priority {
	if e == nil || len(e.all) == 0 {
		return events.Critical
	}
	return e.all[0].priority
}

// wait returns when to ask the governor again. It is zero, and the backlog given up, if the
// governor has allowed nothing for long.
func (e *backlog) wait(now time.Time) time.Time {
	switch {
	case e.refused.IsZero():
		e.refused = now
	case now.Sub(e.refused) > earlyPatience:
		e.all = nil
		return time.Time{}
	}
	return now.Add(e.idle.Next())
}

// takeEarly takes up to n operations that were parked before a time and may come early,
// and makes them due now. It reads one page at most; more is false at the end.
func (p *pages) takeEarly(ctx context.Context, n int, before, now time.Time) (taken []*jetstream.RawStreamMsg, more bool, err error) {
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
		op, ok := mayComeEarly(m, now)
		if !ok {
			continue
		}
		op.Due = now
		if err := wire.PutState(op, m.Header); err != nil {
			return nil, false, err
		}
		taken = append(taken, m)
	}
	return taken, true, nil
}

// mayComeEarly returns the operation that a message carries. ok is whether an early release
// is worth it and affects neither a worker nor a target that asked to wait.
func mayComeEarly(m *jetstream.RawStreamMsg, now time.Time) (op *events.Operation, ok bool) {
	op, err := wire.ReadState(m.Header)
	return op, err == nil && op.Work == nil && !op.RetryAfter.After(now) && op.Due.Sub(now) > earlyWorth
}
