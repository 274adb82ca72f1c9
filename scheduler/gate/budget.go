package gate

import "time"

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
func (e *RetryBudget) Available(inFlight int, now time.Time) (n int, next time.Time, limited bool) {
	if e.spent <= retryBudgetMost-retryBudgetAmple {
		return 0, time.Time{}, false
	}
	e.refill(now)
	left := retryBudgetMost - e.spent
	if left >= retryBudgetAmple {
		return 0, time.Time{}, false
	}
	if n = int(left) - inFlight; n > 0 {
		return n, time.Time{}, true
	}
	if left < 1 {
		next = now.Add(time.Duration((1 - left) / retryBudgetPerSecond * float64(time.Second)))
	}
	return 0, next, true
}

// Done records how an attempt ended.
func (e *RetryBudget) Done(r Result, now time.Time) {
	switch r {
	case Success:
		e.spent = max(e.spent-1, 0)
	case Failure, Throttled:
		e.refill(now)
		e.spent = min(e.spent+1, retryBudgetMost)
	case Ignored, Unused:
	}
}

// short reports whether some of the budget is spent.
func (e *RetryBudget) short(now time.Time) bool {
	e.refill(now)
	return e.spent > 0
}

func (e *RetryBudget) refill(now time.Time) {
	t := now.UnixNano()
	if passed := t - e.at; passed > 0 {
		e.spent = max(e.spent-float64(passed)/float64(time.Second)*retryBudgetPerSecond, 0)
	}
	e.at = t
}
