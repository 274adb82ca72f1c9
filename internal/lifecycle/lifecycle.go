// Package lifecycle owns what runs in an instance. [Lifecycle] starts a list of [Runner],
// drains and ends them in order, and cleans up after them.
package lifecycle

import (
	"context"
	"sync"
)

// Runner is a part of an instance that works until it is ended.
type Runner struct {
	// Run works until ctx ends.
	Run func(ctx context.Context)
	// Drains is whether Run ends by itself once the instance drains. The others, which
	// it may need, are ended only after it.
	Drains bool
}

// Lifecycle owns the goroutines of an instance and what must be undone when it ends. It
// first runs, then drains, and then has stopped. It is safe for concurrent use.
type Lifecycle struct {
	ctx    context.Context // of the runners and requests
	cancel context.CancelFunc
	// draining is closed once nothing more may begin.
	draining chan struct{}

	drainOnce sync.Once
	drainers  sync.WaitGroup // runners that drain
	others    sync.WaitGroup // other runners and requests

	mu       sync.Mutex
	stopped  bool     // once true, no request begins; guarded by mu
	cleanups []func() // a stack; guarded by mu
}

// New returns a lifecycle that runs nothing yet. [Lifecycle.End] must be called.
func New() *Lifecycle {
	ctx, cancel := context.WithCancel(context.Background())
	return &Lifecycle{ctx: ctx, cancel: cancel, draining: make(chan struct{})}
}

// Cleanup registers undo, to be called when everything has ended, last in first out.
func (l *Lifecycle) Cleanup(undo func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cleanups = append(l.cleanups, undo)
}

// Start runs the runners, each on a goroutine of its own.
func (l *Lifecycle) Start(runners []Runner) {
	for _, r := range runners {
		group := &l.others
		if r.Drains {
			group = &l.drainers
		}
		group.Go(func() { r.Run(l.ctx) })
	}
}

// Context returns the context of runners and requests. It ends after the draining runners.
func (l *Lifecycle) Context() context.Context { return l.ctx }

// Draining returns a channel that is closed once nothing more may begin.
func (l *Lifecycle) Draining() <-chan struct{} { return l.draining }

// During calls do unless the instance has stopped. [Lifecycle.End] waits for it.
func (l *Lifecycle) During(do func()) {
	l.mu.Lock()
	if l.stopped {
		l.mu.Unlock()
		return
	}
	l.others.Add(1)
	l.mu.Unlock()
	defer l.others.Done()
	do()
}

// Drain begins the end: nothing more may begin.
func (l *Lifecycle) Drain() { l.drainOnce.Do(func() { close(l.draining) }) }

// IsDraining reports whether the instance was asked to end.
func (l *Lifecycle) IsDraining() bool {
	select {
	case <-l.draining:
		return true
	default:
		return false
	}
}

// End drains, waits for the draining runners, ends the others, and cleans up. If ctx ends
// first, End cuts off what still drains and returns the error of ctx.
func (l *Lifecycle) End(ctx context.Context) error {
	l.Drain()
	stop := context.AfterFunc(ctx, l.cancel)
	l.drainers.Wait()
	cutOff := !stop()
	l.mu.Lock()
	l.stopped = true
	undo := l.cleanups
	l.cleanups = nil
	l.mu.Unlock()
	l.cancel()
	l.others.Wait()
	for i := len(undo) - 1; i >= 0; i-- {
		undo[i]()
	}
	if cutOff {
		return ctx.Err()
	}
	return nil
}
