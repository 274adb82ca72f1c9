package handlers

import (
	"context"
	"sync"
)

// runner is a part of the service that does its work until it is ended.
type runner struct {
	run func(ctx context.Context)
	// drains is whether run ends by itself once the service drains. Such a runner is
	// waited for before the others are ended, which it may need.
	drains bool
}

// lifecycle owns the goroutines of the service and what must be undone when it ends. It
// is running from the start, then draining, then stopped. It is safe for concurrent use.
type lifecycle struct {
	ctx    context.Context // of the runners and requests
	cancel context.CancelFunc
	// draining is closed once nothing more is to be begun.
	draining chan struct{}

	drainOnce sync.Once
	drainers  sync.WaitGroup // runners that drain
	others    sync.WaitGroup // other runners and requests

	mu       sync.Mutex
	stopped  bool     // no request is begun once it is true; guarded by mu
	cleanups []func() // a stack; guarded by mu
}

func newLifecycle() *lifecycle {
	ctx, cancel := context.WithCancel(context.Background())
	return &lifecycle{ctx: ctx, cancel: cancel, draining: make(chan struct{})}
}

// cleanup has undo called when everything has ended, before what was handed in earlier.
func (l *lifecycle) cleanup(undo func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cleanups = append(l.cleanups, undo)
}

// start runs the runners, each on a goroutine of its own.
func (l *lifecycle) start(runners []runner) {
	for _, r := range runners {
		group := &l.others
		if r.drains {
			group = &l.drainers
		}
		group.Go(func() { r.run(l.ctx) })
	}
}

// during calls do, which the end waits for, unless the service has stopped.
func (l *lifecycle) during(do func()) {
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

// drain asks for an end: nothing more is begun.
func (l *lifecycle) drain() { l.drainOnce.Do(func() { close(l.draining) }) }

// isDraining reports whether the service was asked to end.
func (l *lifecycle) isDraining() bool {
	select {
	case <-l.draining:
		return true
	default:
		return false
	}
}

// end drains, waits for what drains, ends the rest, and cleans up. When ctx ends first,
// what still drains is cut off and the error of ctx is returned.
func (l *lifecycle) end(ctx context.Context) error {
	l.drain()
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
