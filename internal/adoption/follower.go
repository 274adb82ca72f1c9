package adoption

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/internal/notify"
	"github.com/rebound-mq/rebound/internal/streams"
)

const (
	// reviewEvery is how often a list is put in force again, to undo changes by other
	// instances or by somebody else.
	reviewEvery = time.Minute
	// applyTimeout bounds putting a list in force, tryTimeout a single try.
	applyTimeout = 30 * time.Second
	tryTimeout   = 3 * time.Second
	// shortestPause and longestPause bound the pauses between failed tries.
	shortestPause = 50 * time.Millisecond
	longestPause  = 2 * time.Second
)

// Listener listens on the advisories of consumers: a [Relay] or a [Capture].
type Listener interface {
	// Listen makes it listen on the advisories of exactly these consumers.
	Listen(ctx context.Context, adopted []Adoption) error
}

// Follower keeps an instance in step with the adopted consumers: it watches the bucket,
// fills the register, and makes its listeners listen on the advisories of the consumers.
type Follower struct {
	register  *Register
	listeners []Listener
	log       *slog.Logger

	// changed is set when the register's list has changed.
	changed notify.Signal
	// begun is closed once the stream of advisories exists.
	begun chan struct{}
	once  sync.Once
	// rewatch restarts the watch of the bucket.
	rewatch streams.Rewatch

	mu    sync.Mutex // guards the fields below
	force inForce
	// applied is closed and replaced when force changes.
	applied chan struct{}
}

// inForce is the list that was last put in force, and the error of doing so.
type inForce struct {
	adopted []Adoption
	err     error
}

// NewFollower returns a follower that fills the register. A list is put in force with the
// listeners in order. Pass a [Relay] before the [Capture]: a repeated advisory is dropped,
// and the relay hands on what only it hears.
func NewFollower(register *Register, listeners ...Listener) *Follower {
	return &Follower{
		register: register, listeners: listeners, log: register.log,
		changed: notify.NewSignal(), begun: make(chan struct{}), applied: make(chan struct{}),
	}
}

// Begun returns a channel that is closed once the stream of advisories exists. The first
// adoption makes it.
func (f *Follower) Begun() <-chan struct{} { return f.begun }

// Run follows the bucket until ctx ends.
func (f *Follower) Run(ctx context.Context) {
	var watching sync.WaitGroup
	watching.Go(func() { f.watch(ctx) })
	defer watching.Wait()
	retry, wait := backoff.Backoff{First: shortestPause, Longest: longestPause}, reviewEvery
	for {
		backoff.SleepUnless(ctx, wait, f.changed)
		if ctx.Err() != nil {
			return
		}
		if f.Apply(ctx) != nil {
			wait = retry.Next()
			continue
		}
		retry.Reset()
		wait = reviewEvery
	}
}

// watch fills the register at every change of the bucket. It restarts a watch that breaks
// off.
func (f *Follower) watch(ctx context.Context) {
	f.rewatch.Run(ctx, func(ctx context.Context) error {
		return f.register.bucket.Watch(ctx, func(list []Adoption) {
			f.register.replace(list)
			f.changed.Set()
		})
	}, func(err error) {
		f.log.Warn("watching the adopted consumers failed and will be retried", "error", err)
	})
}

// Restore puts the known adoptions into the bucket, which was made anew, and restarts the
// watch.
func (f *Follower) Restore(ctx context.Context) error {
	for _, ad := range f.register.latest() {
		if err := f.register.bucket.Put(ctx, ad); err != nil {
			return err
		}
	}
	f.rewatch.Again()
	return nil
}

// Apply puts the latest list in force.
func (f *Follower) Apply(ctx context.Context) error {
	list := f.register.latest()
	if list == nil {
		return nil
	}
	f.mu.Lock()
	was := f.force
	f.mu.Unlock()
	err := f.apply(ctx, list)
	switch {
	case ctx.Err() != nil:
		return err
	case err != nil && (was.err == nil || err.Error() != was.err.Error()):
		f.log.Error("putting the adopted consumers in force failed and will be retried", "error", err)
	case err == nil && (was.err != nil || !slices.Equal(was.adopted, list)):
		f.log.Info("adopted consumers are in force", "consumers", len(list))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.force = inForce{list, err}
	close(f.applied)
	f.applied = make(chan struct{})
	return err
}

// apply puts a list in force. It retries if an answer is late: a clustered server does not
// answer requests for a stream while another instance's request to make it is under way.
func (f *Follower) apply(ctx context.Context, list []Adoption) error {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	for {
		try, end := context.WithTimeout(ctx, tryTimeout)
		err := f.listen(try, list)
		end()
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return err
		}
	}
}

// listen makes the listeners listen, and makes the ledger with the first adoption.
func (f *Follower) listen(ctx context.Context, list []Adoption) error {
	for _, listener := range f.listeners {
		if err := listener.Listen(ctx, list); err != nil {
			return err
		}
	}
	if len(list) == 0 {
		return nil
	}
	if _, err := f.register.ledger(ctx); err != nil {
		return err
	}
	f.once.Do(func() { close(f.begun) })
	return nil
}

// Await waits until a list that satisfies wanted is in force, and returns the error of
// putting it in force.
func (f *Follower) Await(ctx context.Context, wanted func([]Adoption) bool) error {
	for {
		f.mu.Lock()
		force, applied := f.force, f.applied
		f.mu.Unlock()
		if force.adopted != nil && wanted(force.adopted) {
			return force.err
		}
		select {
		case <-applied:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
