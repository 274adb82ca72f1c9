package gate

import (
	"time"

	"github.com/rebound-mq/rebound/breaker"
)

// Result is how an attempt ended, in the classes that matter to a gate.
type Result uint8

const (
	// Success is a good answer.
	Success Result = iota
	// Failure is a failure that says something of the target's health.
	Failure
	// Throttled is the answer of a healthy target that asks for fewer requests, such
	// as HTTP's 429. The governor slows down; a breaker ignores it.
	Throttled
	// Ignored is any other failure, such as a validation error.
	Ignored
	// Unused is an attempt that was not made.
	Unused
)

// Breaker returns the result to report to the breaker.
func (r Result) Breaker() breaker.Result {
	switch r {
	case Success:
		return breaker.Success
	case Failure:
		return breaker.Failure
	case Throttled, Ignored:
		return breaker.Ignored
	case Unused:
	}
	return breaker.Unused
}

// Conclude records the result of an attempt whose pass was done with [Unused]
// because the result was not known yet. It counts for the exposure, the retry budget, the
// governor and the trickle under backpressure; took is how long the attempt took.
func (g *Gate) Conclude(r Result, took time.Duration, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.exposure.Conclude(r, now)
	g.recent.add(r, now)
	g.retryBudget.Done(r, now)
	g.governor.Done(g.governor.epoch, r, took, now)
}
