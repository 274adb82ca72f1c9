package handlers

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/streams"
)

const (
	// earlyPage is how many parked operations are read at once.
	earlyPage = 256
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
	subjects := l.store.subjects
	var from cursors
	idle := paceEvery
	for ctx.Err() == nil {
		due, err := l.count(ctx, subjects.DueOfKey(k.service, k.operation))
		if err != nil {
			return err
		}
		n, parkedBefore, governed := l.gates.Early(l.policy(k), k.service, k.operation, int(due), time.Now())
		if !governed {
			return nil
		}
		if n <= 0 {
			pause(ctx, idle)
			idle = min(2*idle, slowestPace)
			continue
		}
		idle = paceEvery
		moved, read := 0, false
		for _, p := range events.Priorities {
			if moved == n {
				break
			}
			page, next, err := l.stretched(ctx, subjects.ParkedOfKey(p, k.service, k.operation), from[p], n-moved, parkedBefore)
			if err != nil {
				return err
			}
			read, from[p] = read || next != from[p], next
			if err := l.move(ctx, page); err != nil {
				return err
			}
			moved += len(page)
		}
		if !read {
			return nil
		}
	}
	return nil
}

// stretched reads up to n parked operations, from a sequence on, that were parked
// before a time and may come earlier. It returns where to read on.
func (l *lanes) stretched(ctx context.Context, subject string, from uint64, n int, before time.Time) ([]*jetstream.RawStreamMsg, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	var page []*jetstream.RawStreamMsg
	now := time.Now()
	for m, err := range streams.PageFrom(ctx, l.js, l.store.streams.Waiting(), subject, from, earlyPage) {
		switch {
		case err != nil:
			return nil, from, err
		case len(page) == n || !m.Time.Before(before):
			return page, from, nil
		}
		from = m.Sequence + 1
		op, err := events.FromHeader(m.Header)
		if err == nil && op.Work == nil && !op.RetryAfter.After(now) && op.Due.Sub(now) > earlyWorth {
			op.Due = now.UTC()
			if err := op.Put(m.Header); err != nil {
				return nil, from, err
			}
			page = append(page, m)
		}
	}
	return page, from, nil
}
