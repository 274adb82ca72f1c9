package streams

import (
	"context"
	"sync"
	"time"

	"github.com/rebound-mq/rebound/internal/backoff"
)

// rewatchPause is the pause before a watch that broke off is begun anew.
const rewatchPause = 2 * time.Second

// Rewatch keeps a bucket watched, one watch after the other. The zero value is ready.
// It is safe for concurrent use.
type Rewatch struct {
	mu  sync.Mutex
	end context.CancelFunc // of the watch that goes on; nil before the first; guarded by mu
}

// Run calls watch again and again until ctx ends, each time with a context of its own.
// A watch that breaks off with an error is reported to broken and begun anew after a
// pause of two seconds.
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

// Again ends the watch that goes on, so that another begins, because the bucket was made
// anew. Without one it does nothing.
func (r *Rewatch) Again() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.end != nil {
		r.end()
	}
}
