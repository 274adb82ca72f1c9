package handlers

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
)

const (
	// earlyPage is how many parked operations are read at once.
	earlyPage = 1024
	// earlyWorth is what an operation must have left to wait for an early release
	// to be worth its write.
	earlyWorth = time.Second
)

// healed has the lanes of a key looked at whose breaker closed, even if it has
// none: what was parked while its target was ill need not wait any longer.
func (l *lanes) healed(c breaker.Change) {
	if c.To != breaker.Closed {
		return
	}
	if service, operation, err := events.SplitKey(c.Key); err == nil {
		l.check(service, operation)
	}
}

// early lets parked operations of a key out before they are due, the most urgent
// and of those the ones that were parked first, as far as the governor allows. It
// spares what waits because its target asked for it, and what a worker has.
func (l *lanes) early(ctx context.Context, k *keyLanes) error {
	var all []*pages // of the priorities of which some may be left
	for _, p := range events.Priorities {
		parked := l.pages(l.store.subjects.ParkedOfKey(p, k.service, k.operation))
		all = append(all, &parked)
	}
	idle := paceEvery
	for ctx.Err() == nil && len(all) > 0 {
		due, err := l.due(ctx, k)
		if err != nil {
			return err
		}
		n, parkedBefore, governed := l.gates.Early(l.policy(k), k.service, k.operation, due, l.store.clock.Now())
		if !governed {
			return nil
		}
		if n <= 0 {
			pause(ctx, idle)
			idle = min(2*idle, slowestPace)
			continue
		}
		idle = paceEvery
		for n > 0 && len(all) > 0 {
			page, more, err := all[0].stretched(ctx, n, parkedBefore, l.store.clock.Now().UTC())
			if err != nil {
				return err
			}
			if _, err := l.move(ctx, page); err != nil {
				return err
			}
			if n -= len(page); !more {
				all = all[1:]
			}
		}
	}
	return nil
}

// stretched takes up to n parked operations that were parked before a time and may
// come earlier. more is false at the end.
func (p *pages) stretched(ctx context.Context, n int, before, now time.Time) (taken []*jetstream.RawStreamMsg, more bool, err error) {
	for len(taken) < n {
		if len(p.page) == 0 {
			if err := p.next(ctx, earlyPage); err != nil {
				return nil, false, err
			}
		}
		next := p.take(1)
		if len(next) == 0 || !next[0].Time.Before(before) {
			return taken, false, nil
		}
		m := next[0]
		op, err := events.FromHeader(m.Header)
		if err == nil && op.Work == nil && !op.RetryAfter.After(now) && op.Due.Sub(now) > earlyWorth {
			op.Due = now
			if err := op.Put(m.Header); err != nil {
				return nil, false, err
			}
			taken = append(taken, m)
		}
	}
	return taken, true, nil
}
