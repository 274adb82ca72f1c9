package gate

import "github.com/rebound-mq/rebound/breaker"

// Result is how an attempt ended, as far as a gate goes by it.
type Result uint8

const (
	// Success is a good answer.
	Success Result = iota
	// Failure is one that speaks of the target's health.
	Failure
	// Throttled is the answer of a target that is well and has had enough, such as
	// HTTP's 429. The governor slows down by it; a breaker takes no notice.
	Throttled
	// Ignored is any other failure, such as a validation error.
	Ignored
	// Unused is an attempt that was not made.
	Unused
)

// Breaker returns what a breaker is told of r.
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
