package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nuid"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/scheduler/gate"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// run is a call of Execute that has options or in which something went wrong. It belongs to the
// goroutine of the call.
type run struct {
	bound *bound
	ctx   context.Context

	handOver *Submission // submitted when no attempt is left here
	most     int         // bound on the attempts made here, 0 for the policy's
	id       string      // the event id, empty for a new one

	op      *events.Operation // nil before the first failure
	last    error
	failure policy.Failure

	pass     scheduler.Pass // of the retry in flight
	admitted bool           // pass is in use
}

// failed handles a failed attempt. It returns nil once the delay is over and another attempt may
// be made, otherwise the error for Execute to return.
func (r *run) failed(a *attempt, permit breaker.Permit, err error) error {
	now := time.Now()
	took := r.bound.client.clock() - a.began
	r.last, r.failure = err, failureOf(err)
	r.failure.Duration = took
	r.measure(permit, took, now)
	r.record(a.number, took, now)
	if r.ctx.Err() != nil {
		return r.cancelled()
	}

	d := r.bound.client.decide(r.bound, r.op, r.failure, now)
	switch {
	case d.Reason == events.ReasonNotRetryable:
		err := &NotRetryableError{FailedCall: r.ended(), Rule: d.Rule}
		r.publishFailed(d, d.Detail(r.bound.policy, r.op))
		return err
	case !d.Retry:
		return r.exhausted(d, d.Detail(r.bound.policy, r.op))
	case r.most > 0 && a.number >= r.most:
		d.Reason = events.ReasonExhausted
		return r.exhausted(d, fmt.Sprintf("all %d attempts allowed here were made", r.most))
	}
	if err := r.failFast(d, now); err != nil {
		return err
	}
	r.publishScheduled(d)
	if !r.wait(d.Delay) {
		return r.cancelled()
	}
	return r.admit()
}

// measure reports a failed attempt to the breaker, the gate and the meter. An attempt that the caller cut
// off says nothing about its target.
func (r *run) measure(permit breaker.Permit, took time.Duration, now time.Time) {
	if r.ctx.Err() != nil && isCancelled(r.last) {
		permit.Done(breaker.Unused, 0, now)
		r.release(gate.Unused, 0)
		return
	}
	reply := scheduler.Reply{Failed: true, Failure: r.failure, Duration: took}
	said := gate.Ignored
	if r.failure.Unhealthy() {
		said = gate.Failure
	}
	permit.Ended(breaker.Attempt{Result: said.Breaker(), Took: took, Error: reply.Text()}, now)
	r.bound.ended(r, said, took)
	if result, response := reply.Health(r.bound.timeout); result != health.Unknown {
		r.bound.key.meter.add(sample{at: r.bound.client.clock(), response: response, result: result})
	}
}

// isCancelled reports whether err is that of an ended context.
func isCancelled(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// record adds the attempt to the operation.
func (r *run) record(number int, took time.Duration, now time.Time) {
	if r.op == nil {
		r.op = r.operation(now)
	}
	r.op.Attempt = number
	r.op.Record(events.Attempt{
		Number: number, At: now.Add(-took).UTC(), DurationMs: events.InMilliseconds(took), Code: r.failure.Code, Error: r.failure.Message,
	})
}

func (r *run) operation(now time.Time) *events.Operation {
	b := r.bound
	op := &events.Operation{
		Service: b.call.Service, Operation: b.call.Operation, Account: b.call.Account, Campaign: b.call.Campaign,
		Priority: b.priority, PriorityGiven: true, FirstFailure: now.UTC(), Submitted: now.UTC(),
	}
	if deadline, ok := r.ctx.Deadline(); ok {
		op.Deadline = deadline
	}
	if b.client.publisher == nil {
		return op // no event needs its id
	}
	op.Source = b.client.source
	if r.handOver != nil && r.handOver.Source != "" {
		op.Source = r.handOver.Source
	}
	if op.EventID = r.id; op.EventID == "" {
		op.EventID = nuid.Next()
	}
	op.ID = events.OperationID(op.Source, op.EventID, op.Service, op.Operation)
	return op
}

// decide asks the policy for a decision, with the latest measurements.
func (c *Client) decide(b *bound, op *events.Operation, failure policy.Failure, now time.Time) policy.Decision {
	b.key.meter.drain(now)
	return c.pipeline.Decide(b.policy, op, failure, now)
}

// failFast ends a run whose next attempt would be refused when it is due, instead of waiting for
// it.
func (r *run) failFast(d policy.Decision, now time.Time) error {
	if err := r.bound.paused(d.Due); err != nil {
		return r.refused(err)
	}
	if b := r.bound.breaker; b != nil && b.State() == breaker.Open && r.bound.heedsBreaker() {
		if n, next := b.Ready(now); n == 0 && (next.IsZero() || next.After(d.Due)) {
			return r.refused(breaker.ErrOpen)
		}
	}
	if limit, next := r.bound.spent(now); limit != "" && next.After(d.Due) {
		return r.limited(limit, next)
	}
	return nil
}

// wait waits for the delay. It reports whether it was not interrupted.
func (r *run) wait(delay time.Duration) bool {
	return backoff.Sleep(r.ctx, delay) && r.ctx.Err() == nil
}

// succeeded ends the run with a success.
func (r *run) succeeded() {
	if r.op == nil || r.bound.client.publisher == nil {
		return
	}
	r.op.Attempt++
	r.publishOutcome(r.op.Ended(events.RetrySuccess, time.Now()))
}

func (r *run) ended() FailedCall {
	e := FailedCall{Key: r.bound.key.name, Last: r.last}
	if r.op != nil {
		e.Attempts = r.op.Attempt
	}
	return e
}

// exhausted ends a run that has no attempt left here.
func (r *run) exhausted(d policy.Decision, detail string) error {
	err := &ExhaustedError{FailedCall: r.ended(), Reason: d.Reason, Detail: detail}
	if d.Reason == events.ReasonMaxElapsed {
		r.publishFailed(d, detail) // maxElapsedTime is over for the service, too
		return err
	}
	return r.endOrHandOver(err, d, detail)
}

// refused ends a run whose breaker allows no attempt.
func (r *run) refused(refusal error) error {
	r.release(gate.Unused, 0)
	if isCancelled(refusal) {
		return r.cancelled()
	}
	var paused pausedError
	if errors.As(refusal, &paused) {
		err := &PausedError{FailedCall: r.ended(), Until: paused.until}
		return r.endOrHandOver(err, r.undecided(events.ReasonExhausted), paused.Error())
	}
	err := &BreakerOpenError{FailedCall: r.ended(), Breaker: refusal}
	if n, next := r.bound.breaker.Ready(time.Now()); n == 0 && r.bound.breaker.State() == breaker.Open {
		err.RetryAt = next
	}
	return r.endOrHandOver(err, r.undecided(events.ReasonExhausted), "the breaker of the key allows no attempt")
}

// limited ends a run to which a limit allows no retry.
func (r *run) limited(limit string, next time.Time) error {
	err := &RateLimitedError{FailedCall: r.ended(), Limit: limit, RetryAt: next}
	return r.endOrHandOver(err, r.undecided(events.ReasonExhausted), "the key's "+limit+" allows no retry")
}

// cancelled ends a run whose context has ended.
func (r *run) cancelled() error {
	r.release(gate.Unused, 0)
	err := &CancelledError{FailedCall: r.ended(), Cause: r.ctx.Err()}
	if errors.Is(err.Cause, context.DeadlineExceeded) {
		return r.endOrHandOver(err, r.undecided(events.ReasonDeadline), "the deadline is over")
	}
	r.publishFailed(r.undecided(events.ReasonExhausted), "the caller cancelled the operation")
	return err
}

// undecided is the decision on an operation that ends for another reason than its failure.
func (r *run) undecided(reason events.Reason) policy.Decision {
	d := policy.Decision{Reason: reason}
	d.Class, d.Rule = r.bound.policy.Classify(r.bound.call.Service, r.failure, nil)
	return d
}

// endOrHandOver hands the operation over if there is a submission for it, and otherwise ends it.
func (r *run) endOrHandOver(why error, d policy.Decision, detail string) error {
	if r.handOver == nil {
		r.publishFailed(d, detail)
		return why
	}
	receipt, err := r.submit(why)
	if err != nil {
		r.publishFailed(d, detail)
		return errors.Join(why, fmt.Errorf("handing the operation over: %w", err))
	}
	return &HandedOverError{FailedCall: r.ended(), Receipt: receipt, Cause: why}
}

// handOverTimeout bounds a submission, independently of the caller's own deadline.
const handOverTimeout = 5 * time.Second

func (r *run) submit(why error) (Receipt, error) {
	s, b := *r.handOver, r.bound
	s.Service, s.Operation, s.Account, s.Campaign = b.call.Service, b.call.Operation, b.call.Account, b.call.Campaign
	s.Priority, s.Overrides, s.EventID = b.call.Priority, b.call.Overrides, r.id
	s.Attempt, s.Err = 1, r.last
	if r.op != nil {
		s.Attempt, s.FirstFailure, s.EventID, s.Source = r.op.Attempt, r.op.FirstFailure, r.op.EventID, r.op.Source
	}
	if s.Err == nil { // no attempt was made
		s.Err = why
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), handOverTimeout)
	defer cancel()
	return b.client.Submit(ctx, s)
}

// publishScheduled publishes the decision to try again.
func (r *run) publishScheduled(d policy.Decision) {
	p := r.bound.client.publisher
	if p == nil {
		return
	}
	e := scheduler.Scheduled(r.op, d, r.failure)
	p.publish(pendingEvent{
		subject: r.bound.client.subjects.Event(events.RetryScheduled, r.op.Service, r.op.Operation), name: events.RetryScheduled,
		id: r.op.MessageID(events.RetryScheduled), about: e.About, at: time.Now(), data: e,
	})
}

// publishFailed publishes the failure of an operation that made at least one attempt.
func (r *run) publishFailed(d policy.Decision, detail string) {
	if r.op == nil || r.bound.client.publisher == nil {
		return
	}
	outcome := r.op.Ended(events.RetryFailed, time.Now())
	outcome.Reason, outcome.Detail = d.Reason, detail
	outcome.Error = &events.Failure{Code: r.failure.Code, Message: r.failure.Message}
	outcome.Class, outcome.Rule = d.Class.String(), d.Rule
	r.publishOutcome(outcome)
}

func (r *run) publishOutcome(outcome events.Outcome) {
	if last, ok := r.op.Last(); ok && outcome.Outcome == events.RetryFailed {
		outcome.DurationMs = last.DurationMs
	}
	c := r.bound.client
	c.publisher.publish(pendingEvent{
		subject: c.subjects.Outcome(outcome.Outcome, r.op.Service, r.op.Operation), name: outcome.Outcome,
		id: r.op.OutcomeID(), about: outcome.About, at: outcome.EndedAt, data: outcome,
	})
}
