package handlers

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// withholdAtOnce is how many permits are withheld in one go, and withholdWait
	// how long they are waited for before it is looked whether they still should be.
	withholdAtOnce = 64
	withholdWait   = time.Second
	// pulls is into how many pulls what may be in hand is divided at least, so that
	// a pull that waits for messages of one priority leaves room for the others.
	pulls = 8
)

// allowance is how many due operations this instance may have in hand, of all
// priorities. It can be lowered below what it is made for, and raised again.
type allowance struct {
	most    int
	permits *semaphore.Weighted
	limit   atomic.Int64
	changed chan struct{} // full when limit may be another
}

func newAllowance(most int) *allowance {
	a := &allowance{most: most, permits: semaphore.NewWeighted(int64(most)), changed: make(chan struct{}, 1)}
	a.limit.Store(int64(most))
	return a
}

// set limits what may be in hand to n, from 1 to what the allowance is made for.
// What is in hand beyond it stays there until it is done with.
func (a *allowance) set(n int) {
	n = min(max(n, 1), a.most)
	if a.limit.Swap(int64(n)) == int64(n) {
		return
	}
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

// batch is the most messages that one pull should ask for.
func (a *allowance) batch() int {
	return min(max(int(a.limit.Load())/pulls, 1), fetchBatch)
}

// run withholds the permits beyond the limit, until ctx ends.
func (a *allowance) run(ctx context.Context) {
	withheld := 0
	defer func() { a.permits.Release(int64(withheld)) }()
	for ctx.Err() == nil {
		switch more := a.most - int(a.limit.Load()) - withheld; {
		case more < 0:
			a.permits.Release(int64(-more))
			withheld += more
		case more > 0:
			n := min(more, withholdAtOnce)
			waiting, cancel := context.WithTimeout(ctx, withholdWait)
			if a.permits.Acquire(waiting, int64(n)) == nil {
				withheld += n
			}
			cancel()
		default:
			select {
			case <-ctx.Done():
			case <-a.changed:
			}
		}
	}
}
