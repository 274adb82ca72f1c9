package client

import (
	"context"
	"time"

	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

// limitNames are the policy keys that may keep a retry, by the cause of its gate.
var limitNames = map[gate.Cause]string{
	gate.CauseConcurrency:     "maxConcurrentRetries",
	gate.CauseBudgetPerMinute: "retryBudgetPerMinute",
	gate.CauseBudgetPerHour:   "retryBudgetPerHour",
	gate.CauseBackpressure:    "respectGlobalBackpressure",
}

// isBudgeted reports whether the key has a budget of retries, and isLimited whether its retries
// may have to wait or be refused now.
func (b *bound) isBudgeted() bool {
	return b.limits.RetryBudgetPerMinute > 0 || b.limits.RetryBudgetPerHour > 0
}

func (b *bound) isLimited() bool {
	return b.isBudgeted() || b.limits.MaxConcurrentRetries > 0 || b.client.sharing.pressure.Load()
}

// spent returns the budget that allows no retry before next, empty if there is none. It also sees
// to a lease, so that none has to be waited for once the delay of a retry is over.
func (b *bound) spent(now time.Time) (limit string, next time.Time) {
	if !b.isBudgeted() {
		return "", time.Time{}
	}
	q := b.quota(now)
	if q.Shut && (q.Cause == gate.CauseBudgetPerMinute || q.Cause == gate.CauseBudgetPerHour) {
		return limitNames[q.Cause], q.Next
	}
	return "", time.Time{}
}

func (b *bound) quota(now time.Time) scheduler.Quota {
	return b.client.sharing.gates.Quota(b.limits, b.key.service, b.key.operation, b.priority, now)
}

// pollLimit is how often a limit is asked again that says nothing of when it will allow more.
const pollLimit = 20 * time.Millisecond

// admit acquires what a retry needs within the key's limits. It waits for up to the policy's
// maxDelay, but not for a budget of which nobody has anything left.
func (r *run) admit() error {
	b := r.bound
	if err := b.paused(time.Now()); err != nil {
		return r.refused(err)
	}
	if !b.isLimited() {
		return nil
	}
	ctx, cancel := context.WithTimeout(r.ctx, b.policy.MaxDelay)
	defer cancel()
	until := time.Now().Add(b.policy.MaxDelay)
	for {
		pass, shut, err := b.client.sharing.gates.Enter(ctx, b.limits, r.op, "", time.Now())
		switch {
		case r.ctx.Err() != nil:
			pass.Done(gate.Unused, 0, time.Now())
			return r.cancelled()
		case err != nil: // maxDelay is over
			return r.limitedBy(b.quota(time.Now()).Cause, time.Time{})
		case shut == nil:
			r.pass, r.admitted = pass, true
			return nil
		}
		wait := max(time.Until(shut.Next), pollLimit)
		waits := shut.Cause == gate.CauseConcurrency || shut.Cause == gate.CauseBackpressure ||
			shut.Cause == gate.CauseBudgetShare && b.client.sharing.gates.Lent(b.key.name)
		if !waits || time.Until(until) <= wait {
			return r.limitedBy(shut.Cause, shut.Next)
		}
		if !backoff.Sleep(r.ctx, wait) {
			return r.cancelled()
		}
	}
}

// limitedBy ends a run whose gate allows no retry.
func (r *run) limitedBy(c gate.Cause, next time.Time) error {
	settings := r.bound.limits.Gate()
	switch c {
	case gate.CauseBudgetShare:
		c = settings.Budget()
	case gate.CauseBudgetPerMinute, gate.CauseBudgetPerHour, gate.CauseBackpressure:
	default:
		c = gate.CauseConcurrency // the only other one; it may have been freed by now
	}
	return r.limited(limitNames[c], next)
}

// release tells the gate how the retry in flight ended.
func (r *run) release(result gate.Result, took time.Duration) {
	if r != nil && r.admitted {
		r.pass.Done(result, took, time.Now())
		r.pass, r.admitted = scheduler.Pass{}, false
	}
}

// ended tells the gate how an attempt ended. Of one that it did not admit it hears while
// backpressure is on, to know whether the key fails.
func (b *bound) ended(r *run, result gate.Result, took time.Duration) {
	switch {
	case r != nil && r.admitted:
		r.release(result, took)
	case b.client.sharing.pressure.Load():
		b.client.sharing.gates.Conclude(b.limits, b.key.name, scheduler.Conclusion{Result: result, Took: took}, time.Now())
	}
}
