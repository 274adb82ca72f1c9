package streams

import (
	"context"
	"sync"
	"time"

	"github.com/rebound-mq/rebound/internal/backoff"
)

// rewatchPause is the pause before a broken watch is started again.
const rewatchPause = 2 * time.Second

// Rewatch keeps a bucket watched, one watch after the other. The zero value is ready to use. It
// is safe for concurrent use.
type Rewatch struct {
	mu  sync.Mutex
	end context.CancelFunc // of the current watch; nil before the first; guarded by mu
}

// Run calls watch repeatedly until ctx ends, each time with a new context. If watch returns an
// error, Run reports it to broken and continues after a pause of about two seconds.
func (r *Rewatch) Run(ctx context.Context, watch func(context.Context) error, broken func(error)) {
	pauses := backoff.Backoff{First: rewatchPause, Longest: rewatchPause}
	for ctx.Err() == nil {
		watching, end := context.WithCancel(ctx)
		r.mu.Lock()
		r.end = end
		r.mu.Unlock()
		err := watch(watching)
		end()
		if err == nil {
			continue
		}
		broken(err)
		pauses.Wait(ctx)
	}
}

// Again ends the current watch, so that another starts, because the bucket was created anew.
// Without a watch it does nothing.
func (r *Rewatch) Again() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.end != nil {
		r.end()
	}
}
