package client

import (
	"context"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

// Execute calls fn, and calls it again while it fails, as the policy of call decides. It returns
// the result of the first call that succeeds.
//
// The context of fn ends with ctx and after the policy's attemptTimeout. Execute waits for an fn
// that ignores its context. A panic of fn is a failure, see [PanicError]. Errors are classified
// as in the service; the package overview says how they are read.
//
// The key's breaker, if the policy has one, must allow every attempt, and the key's limits every
// retry. With a connection they are those of the service: what fails here opens the breaker that
// the service obeys and the other way round, budgets are spent together, and what an operator
// trips, holds or pauses is refused here, too. A retry waits for up to the policy's maxDelay for a
// place among those in flight, for backpressure, and for a budget that others give back. An attempt
// at a closed breaker waits for nobody; only the first call of a client, and of a key, reads what
// is known. While the store is out of reach, Execute goes on with what it knows, and an even share
// of the limits, and merges later; [Client.Sharing] and the log tell. [Config.Local] keeps all of
// it in this process.
//
// With a connection, each decision is published as a retryScheduled event, and the end of an
// operation that failed at least once as retrySuccess or retryFailed.
//
// The error is a [*RateLimitedError], [*BreakerOpenError], [*PausedError], [*ExhaustedError],
// [*NotRetryableError], [*CancelledError] or [*HandedOverError], or it reports an invalid call or
// option. The result is then the zero value.
//
// Execute is safe for concurrent use.
func Execute[T any](ctx context.Context, c *Client, call *Call, fn func(context.Context) (T, error), options ...ExecuteOption) (T, error) {
	var none T
	b, err := call.bind(ctx, c)
	if err != nil {
		return none, err
	}
	var r *run
	if len(options) > 0 {
		if r, err = b.run(ctx, options); err != nil {
			return none, err
		}
	}
	if err := ctx.Err(); err != nil {
		return none, b.begin(ctx, &r).cancelled()
	}
	for number := 1; ; number++ {
		began := c.clock()
		permit, err := b.allow(ctx, began)
		if err != nil {
			return none, b.begin(ctx, &r).refused(err)
		}
		a := &attempt{Context: ctx, bound: b, number: number, began: began}
		v, err := attemptOnce(a, permit, r, fn)
		if err == nil {
			b.succeeded(a, permit, r)
			if r != nil {
				r.succeeded()
			}
			return v, nil
		}
		if err := b.begin(ctx, &r).failed(a, permit, err); err != nil {
			return none, err
		}
	}
}

// attemptOnce makes one attempt and turns a panic into an error. If the goroutine exits within fn
// (runtime.Goexit), it releases everything that the attempt holds.
func attemptOnce[T any](a *attempt, permit breaker.Permit, r *run, fn func(context.Context) (T, error)) (v T, err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		if p := recover(); p != nil {
			err = newPanicError(p)
			a.end()
			return
		}
		a.end()
		permit.Done(breaker.Unused, 0, time.Now())
		r.release(gate.Unused, 0)
	}()
	v, err = fn(a)
	returned = true
	a.end()
	return v, err
}

// begin returns the run, which is made only once something goes wrong.
func (b *bound) begin(ctx context.Context, r **run) *run {
	if *r == nil {
		*r = &run{bound: b, ctx: ctx}
	}
	return *r
}

// allow asks the pauses and the breaker. It reads the wall clock only if something is paused or the
// breaker is not closed. Without a breaker in the policy, one that an operator opened counts.
func (b *bound) allow(ctx context.Context, clock time.Duration) (breaker.Permit, error) {
	if b.client.sharing.pauses.Load() != nil {
		if err := b.paused(time.Now()); err != nil {
			return breaker.Permit{}, err
		}
	}
	switch {
	case b.breaker == nil:
		return breaker.Permit{}, nil
	case b.breaker.State() == breaker.Closed:
		if !b.guarded {
			return breaker.Permit{}, nil
		}
		return b.breaker.Allow(ctx, b.client.at(clock))
	case !b.heedsBreaker():
		return breaker.Permit{}, nil
	}
	return b.breaker.Allow(ctx, time.Now())
}

// heedsBreaker reports whether the key's breaker has a say.
func (b *bound) heedsBreaker() bool {
	return b.breaker != nil && (b.guarded || b.breaker.Forced())
}

// succeeded reports a success to the breaker, the gate and the meter.
func (b *bound) succeeded(a *attempt, permit breaker.Permit, r *run) {
	clock := b.client.clock()
	took := clock - a.began
	b.ended(r, gate.Success, took)
	permit.Done(breaker.Success, took, b.client.at(clock))
	b.key.meter.add(sample{at: clock, response: took, result: health.Succeeded})
}
