// Package backoff paces what the service itself tries again. Most important is
// [Backoff], which spreads the tries of instances that failed together; [Sleep] is the
// pause that heeds a context.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff says how long to pause before each next try of one loop. Its pauses double
// from First to Longest, each spread evenly between half and one and a half of that, so
// that instances that failed at one instant do not come back at one instant. The zero
// value does not pause. It is not safe for concurrent use.
type Backoff struct {
	// First is the mean of the first pause, Longest that of the longest.
	First, Longest time.Duration
	// Random returns a number in [0,1); [rand.Float64] when nil.
	Random func() float64

	pause time.Duration
}

// Next returns the pause before the next try: at least half of First, less than one and
// a half of Longest.
func (b *Backoff) Next() time.Duration {
	switch {
	case b.pause == 0:
		b.pause = min(b.First, b.Longest)
	case b.pause > b.Longest/2: // twice of it could be more than a duration holds
		b.pause = b.Longest
	default:
		b.pause *= 2
	}
	random := b.Random
	if random == nil {
		random = rand.Float64
	}
	return b.pause/2 + time.Duration(random()*float64(b.pause))
}

// Reset makes the next pause the first again, after a try that succeeded.
func (b *Backoff) Reset() { b.pause = 0 }

// Wait pauses before the next try. It reports whether the pause ran its course, which
// it does unless ctx ends.
func (b *Backoff) Wait(ctx context.Context) bool { return Sleep(ctx, b.Next()) }

// Sleep pauses for d. It reports whether the pause ran its course, which it does unless
// ctx ends; a context that has ended never sleeps.
func Sleep(ctx context.Context, d time.Duration) bool { return SleepUnless(ctx, d, nil) }

// SleepUnless pauses for d like [Sleep], unless stop is closed or sends first. A nil stop
// never does.
func SleepUnless(ctx context.Context, d time.Duration, stop <-chan struct{}) bool {
	select {
	case <-ctx.Done():
		return false
	case <-stop:
		return false
	default:
	}
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-stop:
	case <-ctx.Done():
	}
	return false
}
