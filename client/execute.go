package client

import (
	"context"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/health"
)

// Execute calls fn, and calls it again while it fails and p allows, after the
// delays that p decides. It returns the result of the first call that succeeds.
//
// fn gets a context that ends with ctx and after the policy's attemptTimeout. It
// is to heed it: a function that does not is waited for. A panic of fn is a
// failure, see [PanicError]. An error is classified by the policy as the
// service classifies failures; the package's overview says how it is read.
//
// Every call needs the leave of the key's breaker when the policy has one, and
// every retry that of the key's budget. With a connection, each decision is told
// by a retryScheduled event and the end, of an operation that failed at least
// once, by retrySuccess or retryFailed.
//
// The error is one of [*RateLimitedError], [*BreakerOpenError],
// [*ExhaustedError], [*NotRetryableError], [*CancelledError] and
// [*HandedOverError], or it says what is wrong with p or the options. The result
// is the zero value then.
//
// Execute is safe for concurrent use.
func Execute[T any](ctx context.Context, c *Client, p *Call, fn func(context.Context) (T, error), options ...ExecuteOption) (T, error) {
	var none T
	b, err := p.bind(c)
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
		v, err := call(a, permit, r, fn)
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

// call makes one attempt and turns a panic into an error. When the goroutine
// exits within fn, all that the attempt holds is given back.
func call[T any](a *attempt, permit breaker.Permit, r *run, fn func(context.Context) (T, error)) (v T, err error) {
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

// begin returns the run, which is made when something first goes wrong.
func (b *bound) begin(ctx context.Context, r **run) *run {
	if *r == nil {
		*r = &run{bound: b, ctx: ctx}
	}
	return *r
}

// allow asks the breaker for leave. A closed breaker does not look at the wall
// clock.
func (b *bound) allow(ctx context.Context, clock time.Duration) (breaker.Permit, error) {
	switch {
	case b.breaker == nil:
		return breaker.Permit{}, nil
	case b.breaker.State() == breaker.Closed:
		return b.breaker.Allow(ctx, b.client.start.Add(clock))
	}
	return b.breaker.Allow(ctx, time.Now())
}

// succeeded tells those who measure of a success.
func (b *bound) succeeded(a *attempt, permit breaker.Permit) {
	clock := b.client.clock()
	took := clock - a.began
	permit.Done(breaker.Success, took, b.client.start.Add(clock))
	b.key.meter.add(sample{at: clock, response: took, result: health.Succeeded})
}
