package policy

import (
	"fmt"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

// Decide says what becomes of an operation whose attempt failed.
//
// An operation ends if its failure is not retryable, if its attempts are exhausted,
// if its next attempt would be due less than [MinAttempt] before its deadline, or if
// that attempt would be due later than MaxElapsedTime after the first failure; the
// first of these that applies is the reason. The delay is never shortened to meet a
// deadline: the target needs it, and the service learns at once that waiting is
// futile.
//
// Otherwise the operation waits for the strategy's delay, times the adaptive factors
// where they apply, capped by MaxDelay and randomised by the jitter. While the gate
// of the key is shut, this delay counts from when it opens, so that few operations
// come due in vain, and not all at once. A Retry-After is a floor, even above
// MaxDelay, because the target knows best.
//
// random yields numbers in [0, 1). It is called at most once, and not at all if
// nothing is random. Decide allocates nothing and takes the same time for any
// attempt.
func (p *Policy) Decide(in Input, random func() float64) Decision {
	verdict := p.judge(in.Service, in.Failure, in.Seen)
	d := Decision{
		Class: verdict.class, Rule: verdict.rule, Limited: verdict.limited, Unhealthy: verdict.unhealthy,
		Confidence: 1, Factors: noFactors,
	}
	attempt := max(in.Attempt, 1)
	if d.Class == NotRetryable {
		d.Reason = events.ReasonNotRetryable
		return d
	}
	if attempt >= p.MaxAttempts {
		d.Reason = events.ReasonExhausted
		return d
	}

	if p.Adapts() {
		fresh := freshness(in.Signals.Age)
		d.Factors = p.factors(&in.Signals, fresh, in.Priority)
		d.Confidence = confidence(&in.Signals, fresh)
	}
	low, high := p.spread(attempt, in.Previous, d.Factors.Product())
	if !in.Opens.IsZero() {
		d.Gate = max(in.Opens.Sub(in.Now), 0)
	}
	delay := max(d.Gate+p.draw(low, high, random), in.Failure.RetryAfter)
	due := in.Now.Add(delay)

	if !in.Deadline.IsZero() && due.Add(p.minAttempt()).After(in.Deadline) {
		d.Reason, d.Gate = events.ReasonDeadline, 0
		return d
	}
	elapsed := delay
	if !in.ElapsesFrom.IsZero() {
		elapsed = due.Sub(in.ElapsesFrom)
	}
	if p.MaxElapsedTime > 0 && elapsed > p.MaxElapsedTime {
		d.Reason, d.Gate = events.ReasonMaxElapsed, 0
		return d
	}
	d.Retry, d.Delay, d.Due, d.Strategy = true, delay, due, p.strategyName()
	return d
}

// Input is all that a decision depends on besides the policy and the random source.
type Input struct {
	// Attempt is the number of the attempt that just failed, from 1. Smaller
	// numbers count as 1.
	Attempt int
	// Previous is the delay before this attempt, from which decorrelated jitter
	// starts. 0 means none.
	Previous time.Duration
	// Now is the time of the decision.
	Now time.Time
	// ElapsesFrom is from when MaxElapsedTime counts, see [ElapsesFrom]. Zero means Now.
	ElapsesFrom time.Time
	// Deadline is when the operation becomes useless. Zero means never.
	Deadline time.Time
	// Failure is how the attempt failed.
	Failure Failure
	// Service is the operation's service, for rules that are restricted to one.
	Service string
	// Opens is when the shut gate of the key opens at the earliest. Zero means that
	// it is open or the time is not known.
	Opens time.Time
	// Priority is the operation's own.
	Priority events.Priority
	// Signals are what is known of the target and of its host.
	Signals Signals
	// Seen counts how often each rule with a limit has decided for this operation,
	// by the rule's name. It is only read, and may be nil.
	Seen map[string]int
}

// Failure is how an attempt failed.
type Failure struct {
	// Code is the error code of the target or the service: an HTTP number, a gRPC
	// name, a NATS error or one of the original design's error types. It may be
	// empty.
	Code string
	// Message is the error's text. It may be empty.
	Message string
	// Duration is how long the attempt took. 0 means unknown.
	Duration time.Duration
	// RetryAfter is how long the target asked to be left alone. 0 means that it did
	// not ask.
	RetryAfter time.Duration
}

// Decision is what becomes of an operation after a failure.
type Decision struct {
	// Retry is whether there is another attempt. Reason says why not.
	Retry bool
	// Delay is how long the operation waits, never negative; 0 without Retry.
	Delay time.Duration
	// Due is when the wait is over; zero without Retry.
	Due time.Time
	// Gate is the part of Delay that waits for the gate of the key to open.
	Gate time.Duration
	// Strategy names how the delay was computed: fixed, linear, exponential, or one
	// of these after "adaptive_". It is empty without Retry.
	Strategy string
	// Confidence is how much evidence supports the adaptive factors, 0 to 1:
	// n/(n+2) × 2^(−a / 5 min) × 1/(1+v) for n samples, the last of them of age a,
	// whose response times have the squared coefficient of variation v. It is 1 for
	// strategies without adaptive factors.
	Confidence float64
	// Factors are the factors of an adaptive delay, all 1 otherwise.
	Factors Factors
	// Class is the class that Rule gave the failure.
	Class Class
	// Rule names the rule that decided the class, of the policy or the built-in
	// table.
	Rule string
	// Limited is whether Rule has a limit, so that this use of it must be counted
	// in the operation's next [Input.Seen].
	Limited bool
	// Held is what held an operation that ends because its time is over, empty if it was
	// not held.
	Held gate.Cause
	// Unhealthy is whether the failure says something of the target's health.
	Unhealthy bool
	// Reason is why the operation ends, empty with Retry: exhausted,
	// not_retryable, deadline or max_elapsed.
	Reason events.Reason
}

// MinAttempt is the least time that is worth an attempt. An operation whose next
// attempt would be due less than this before its deadline ends at once, because that
// attempt would be cut off. A policy with a shorter AttemptTimeout needs only that.
const MinAttempt = 10 * time.Millisecond

// minAttempt returns the least time that is worth an attempt under p.
func (p *Policy) minAttempt() time.Duration {
	if p.AttemptTimeout > 0 {
		return min(MinAttempt, p.AttemptTimeout)
	}
	return MinAttempt
}

// strategyName returns the name of how p computes its delays.
func (p *Policy) strategyName() string {
	adapts := p.Adapts()
	switch {
	case p.BackoffStrategy == Fixed && adapts:
		return "adaptive_fixed"
	case p.BackoffStrategy == Linear && adapts:
		return "adaptive_linear"
	case adapts:
		return "adaptive_exponential"
	}
	return p.BackoffStrategy.String()
}

// Detail says in a sentence why the decision, which has a Reason, ended op.
func (d Decision) Detail(p *Policy, op *events.Operation) string {
	switch d.Reason {
	case events.ReasonExhausted:
		return fmt.Sprintf("all %d attempts that the policy allows were made", p.MaxAttempts)
	case events.ReasonNotRetryable:
		return fmt.Sprintf("the failure is not retryable by rule %s", d.Rule)
	case events.ReasonDeadline:
		return fmt.Sprintf("no further attempt can finish before the deadline %s", op.Deadline.Format(time.RFC3339))
	case events.ReasonMaxElapsed:
		from := "the first failure"
		if !op.ElapsesFrom.IsZero() {
			from = "its pause"
		}
		if d.Held != "" {
			return fmt.Sprintf("it was still held (%s) %s after %s", d.Held, p.MaxElapsedTime, from)
		}
		return fmt.Sprintf("the next attempt would be later than %s after %s", p.MaxElapsedTime, from)
	}
	return string(d.Reason)
}
