package client

import (
	"context"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/health"
)

// Execute calls fn, and calls it again while it fails, as the policy of call decides. It
// returns the result of the first call of fn that succeeds.
//
// fn gets a context that ends with ctx and after the policy's attemptTimeout. Execute waits
// for an fn that does not heed it. A panic of fn is a failure, see [PanicError]. The policy
// classifies an error as in the service; the package's overview says how it is read.
//
// The key's breaker, if the policy has one, must let every attempt through, and the key's
// budget every retry. With a connection, a retryScheduled event tells of each decision, and
// retrySuccess or retryFailed of the end of an operation that failed at least once.
//
// The error is one of [*RateLimitedError], [*BreakerOpenError], [*ExhaustedError],
// [*NotRetryableError], [*CancelledError] and [*HandedOverError], or it says what is wrong
// with call or the options. The result is the zero value then.
//
// Execute is safe for concurrent use.
func Execute[T any](ctx context.Context, c *Client, call *Call, fn func(context.Context) (T, error), options ...ExecuteOption) (T, error) {
	var none T
	b, err := call.bind(c)
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
			b.succeeded(a, permit)
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

// attemptOnce makes one attempt and turns a panic into an error. When the goroutine exits
// within fn, it gives back all that the attempt holds.
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
		r.release()
	}()
	v, err = fn(a)
	returned = true
	a.end()
	return v, err
}

// begin returns the run, which is only made when something goes wrong.
func (b *bound) begin(ctx context.Context, r **run) *run {
	if *r == nil {
		*r = &run{bound: b, ctx: ctx}
	}
	return *r
}

// allow asks the breaker for a permit. A closed breaker needs no wall clock.
func (b *bound) allow(ctx context.Context, clock time.Duration) (breaker.Permit, error) {
	switch {
	case b.breaker == nil:
		return breaker.Permit{}, nil
	case b.breaker.State() == breaker.Closed:
		return b.breaker.Allow(ctx, b.client.start.Add(clock))
	}
	return b.breaker.Allow(ctx, time.Now())
}

// succeeded records a success with the breaker and the meter.
func (b *bound) succeeded(a *attempt, permit breaker.Permit) {
	clock := b.client.clock()
	took := clock - a.began
	permit.Done(breaker.Success, took, b.client.start.Add(clock))
	b.key.meter.add(sample{at: clock, response: took, result: health.Succeeded})
}
