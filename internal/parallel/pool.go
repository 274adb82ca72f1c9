package parallel

import (
	"sync"
	"sync/atomic"
	"time"
)

// restFor is how long a goroutine waits for the next call before it ends.
const restFor = 5 * time.Second

// Pool calls functions in goroutines that it uses again. A new goroutine has a small stack, which
// is copied to a larger one each time that a call goes deeper than before; one that has been used
// has its stack already. A pool never makes a function wait for a goroutine, and a goroutine that
// has had nothing to do for five seconds ends. It is safe for concurrent use.
type Pool struct {
	group sync.WaitGroup
	calls chan func()
	// idle counts the goroutines that wait for the next call, at most mostIdle.
	idle     atomic.Int64
	mostIdle int64
	close    sync.Once
	closed   chan struct{}
}

// NewPool returns a pool in which at most that many goroutines wait for the next call.
func NewPool(mostIdle int) *Pool {
	return &Pool{calls: make(chan func()), mostIdle: int64(mostIdle), closed: make(chan struct{})}
}

// Go calls do in a goroutine. It must not be called after [Pool.Wait], other than by a call that
// has not returned.
func (p *Pool) Go(do func()) {
	select {
	case p.calls <- do:
	default:
		p.group.Go(func() { p.serve(do) })
	}
}

// Wait returns when all calls have returned and the goroutines have ended. It may be called again.
func (p *Pool) Wait() {
	p.close.Do(func() { close(p.closed) })
	p.group.Wait()
}

// serve calls do, and then what else there is.
func (p *Pool) serve(do func()) {
	rest := time.NewTimer(restFor)
	defer rest.Stop()
	for {
		do()
		if p.idle.Add(1) > p.mostIdle {
			p.idle.Add(-1)
			return
		}
		rest.Reset(restFor)
		select {
		case do = <-p.calls:
			p.idle.Add(-1)
		case <-rest.C:
			p.idle.Add(-1)
			return
		case <-p.closed:
			return
		}
	}
}
