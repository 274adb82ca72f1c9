package client

import (
	"context"
	"sync/atomic"
	"time"
)

// AttemptFrom returns the number, from 1, of the attempt that [Execute] or a worker runs with
// ctx. It returns 0 for any other context.
func AttemptFrom(ctx context.Context) int {
	n, _ := ctx.Value(attemptKey{}).(int)
	return n
}

type attemptKey struct{}

// attempt is the context of one attempt. It ends with the context given to Execute, after the
// policy's attemptTimeout, and when the attempt is over.
//
// A function that never looks at its context should not pay for a timer, so the context with the
// timer is made on first use.
type attempt struct {
	context.Context // given to Execute
	bound           *bound
	began           time.Duration // on the client's clock
	number          int

	live atomic.Pointer[live] // nil until first use; over if the attempt ended unused
}

// live is the context with the timer.
type live struct {
	context.Context
	cancel context.CancelFunc
}

// over is the live context of an attempt that ended before anything used it.
var over = func() *live {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return &live{ctx, cancel}
}()

// Deadline implements [context.Context].
func (a *attempt) Deadline() (time.Time, bool) {
	outer, ok := a.Context.Deadline()
	if a.bound.timeout <= 0 {
		return outer, ok
	}
	if own := a.deadline(); !ok || own.Before(outer) {
		return own, true
	}
	return outer, true
}

// deadline is the end of the policy's attemptTimeout.
func (a *attempt) deadline() time.Time { return a.bound.client.start.Add(a.began + a.bound.timeout) }

// Done implements [context.Context].
func (a *attempt) Done() <-chan struct{} { return a.wake().Done() }

// Err implements [context.Context].
func (a *attempt) Err() error {
	late := a.bound.timeout > 0 && a.bound.client.clock()-a.began >= a.bound.timeout
	if a.live.Load() == nil && !late {
		return a.Context.Err()
	}
	return a.wake().Err()
}

// Value implements [context.Context].
func (a *attempt) Value(key any) any {
	if key == (attemptKey{}) {
		return a.number
	}
	if l := a.live.Load(); l != nil && l != over {
		return l.Value(key) // lets derived contexts find the parent they attach to
	}
	return a.Context.Value(key)
}

func (a *attempt) wake() *live {
	if l := a.live.Load(); l != nil {
		return l
	}
	l := new(live)
	if a.bound.timeout > 0 {
		l.Context, l.cancel = context.WithDeadline(a.Context, a.deadline())
	} else {
		l.Context, l.cancel = context.WithCancel(a.Context)
	}
	if !a.live.CompareAndSwap(nil, l) {
		l.cancel() // another goroutine was first
		return a.live.Load()
	}
	return l
}

// end ends the context.
func (a *attempt) end() {
	if !a.live.CompareAndSwap(nil, over) {
		a.live.Load().cancel()
	}
}
