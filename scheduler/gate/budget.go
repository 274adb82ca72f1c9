package gate

import (
	"math"
	"time"
)

// RetryBudget is a budget that successes refill: it slows attempts at a target that
// fails more often than it succeeds to a trickle, with or without a breaker. Each
// [Failure] and each [Throttled] attempt costs 1, each success earns 1, and time
// earns 10 a second, up to 100. So for any span of time
//
//	failures ≤ 100 + successes + 10 × seconds + what was in flight
//
// It follows Finagle's retry budget, which lets 10 retries a second pass whatever
// happens, and the retry quota of the AWS SDK, which refunds retries that succeed.
// Unlike those it takes nothing in advance: a target that answers well is never
// limited, however many attempts are in flight.
//
// The zero value is a full budget.
type RetryBudget struct {
	spent float64 // of retryBudgetMost
	at    int64   // when spent was right, Unix nanoseconds
}

const (
	retryBudgetMost      = 100.0
	retryBudgetPerSecond = 10.0
	// retryBudgetAmple is the balance from which on nothing is limited.
	retryBudgetAmple = retryBudgetMost / 2
)

// Available returns how many attempts may go beside those in flight, and, when that is
// 0, when there will be more. limited is false while the budget is ample.
func (b *RetryBudget) Available(inFlight int, now time.Time) (n int, next time.Time, limited bool) {
	if b.spent <= retryBudgetMost-retryBudgetAmple {
		return 0, time.Time{}, false
	}
	b.refill(now)
	left := retryBudgetMost - b.spent
	if left >= retryBudgetAmple {
		return 0, time.Time{}, false
	}
	if n = int(left) - inFlight; n > 0 {
		return n, time.Time{}, true
	}
	// What is in flight may succeed before that, but time alone is enough.
	missing := float64(inFlight+1) - left
	return 0, now.Add(time.Duration(math.Ceil(missing / retryBudgetPerSecond * float64(time.Second)))), true
}

// Done records how an attempt ended.
func (b *RetryBudget) Done(r Result, now time.Time) {
	switch r {
	case Success:
		b.spent = max(b.spent-1, 0)
	case Failure, Throttled:
		b.refill(now)
		b.spent = min(b.spent+1, retryBudgetMost)
	case Ignored, Unused:
	}
}

// short reports whether some of the budget is spent.
func (b *RetryBudget) short(now time.Time) bool {
	b.refill(now)
	return b.spent > 0
}

func (b *RetryBudget) refill(now time.Time) {
	t := now.UnixNano()
	if passed := t - b.at; passed > 0 {
		b.spent = max(b.spent-float64(passed)/float64(time.Second)*retryBudgetPerSecond, 0)
	}
	b.at = t
}
