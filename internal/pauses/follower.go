package pauses

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/internal/notify"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/scheduler"
)

// endAgain is when an ended pause that is still kept is looked at again.
const endAgain = 5 * time.Second

// Follower keeps an instance in step with the pauses of a bucket. It is safe for concurrent use.
type Follower struct {
	bucket *Bucket
	config Config

	changed notify.Signal // set when list has changed
	rewatch streams.Rewatch

	dropped map[string]uint64 // revisions of ended pauses that were removed, by key; of Run

	mu      sync.Mutex    // guards the fields below
	list    []entry       // by key; nil before the bucket was read
	created time.Time     // when the bucket of list was made
	applied chan struct{} // closed and replaced when list changes
}

// Config configures a [Follower]. All of it is required.
type Config struct {
	// InForce is called with the pauses that are in force, whenever they change.
	InForce func(*scheduler.Pauses)
	// Subjects and Publish are for the event that a pause has ended by itself.
	Subjects events.Subjects
	Publish  func(ctx context.Context, what string, m *nats.Msg) error
	// Leads reports whether this instance may lead.
	Leads func() bool
	// Now is the server's time.
	Now func() time.Time
	Log *slog.Logger
}

// NewFollower returns a follower of the pauses in bucket.
func NewFollower(bucket *Bucket, config Config) *Follower {
	return &Follower{bucket: bucket, config: config, changed: notify.NewSignal(), dropped: make(map[string]uint64), applied: make(chan struct{})}
}

// Read puts the pauses of the bucket in force once, so that they hold before [Follower.Run].
func (f *Follower) Read(ctx context.Context) error {
	created, err := f.bucket.created(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	read := false
	err = f.bucket.watch(ctx, func(list []entry) {
		f.replace(list, created)
		read = true
		cancel()
	}, f.broken)
	if err == nil && !read {
		err = context.Cause(ctx)
	}
	return err
}

// Run follows the bucket, and ends the pauses whose time is over, until ctx ends.
func (f *Follower) Run(ctx context.Context) {
	var watching sync.WaitGroup
	watching.Go(func() {
		f.rewatch.Run(ctx, f.watch, func(err error) { f.config.Log.Warn("following the pauses failed and will be retried", "error", err) })
	})
	defer watching.Wait()
	for ctx.Err() == nil {
		backoff.SleepUnless(ctx, f.endSome(ctx), f.changed)
	}
}

// watch follows the bucket as it is. One that was made anew first gets the pauses of the last one.
func (f *Follower) watch(ctx context.Context) error {
	created, err := f.bucket.created(ctx)
	if err != nil {
		return err
	}
	f.mu.Lock()
	renewed := f.list != nil && !created.Equal(f.created)
	f.mu.Unlock()
	if renewed {
		if err := f.restore(ctx); err != nil {
			return err
		}
	}
	return f.bucket.watch(ctx, func(list []entry) { f.replace(list, created) }, f.broken)
}

func (f *Follower) broken(key string, err error) {
	f.config.Log.Warn("a pause cannot be read and holds nothing", "key", key, "error", err)
}

// Restore puts the pauses that are known into the bucket, which was made anew, and follows it.
func (f *Follower) Restore(ctx context.Context) error {
	if err := f.restore(ctx); err != nil {
		return err
	}
	f.rewatch.Again()
	return nil
}

func (f *Follower) restore(ctx context.Context) error {
	for _, p := range f.List() {
		if err := f.bucket.restore(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// replace puts a list of the bucket in force.
func (f *Follower) replace(list []entry, created time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list, f.created = list, created
	f.putInForce(f.config.Now())
	f.changed.Set()
	close(f.applied)
	f.applied = make(chan struct{})
}

// putInForce puts the pauses in force that have not ended. The caller holds f.mu, so that a later
// list never gives way to an earlier one.
func (f *Follower) putInForce(now time.Time) { f.config.InForce(scheduler.NewPauses(f.active(now))) }

// active returns the pauses that have not ended. The caller holds f.mu.
func (f *Follower) active(now time.Time) []events.Pause {
	all := []events.Pause{}
	for i := range f.list {
		if p := &f.list[i].Pause; p.Pattern != (events.Pattern{}) && !p.Ended(now) {
			all = append(all, *p)
		}
	}
	return all
}

// List returns the pauses that are in force, by pattern.
func (f *Follower) List() []events.Pause {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.active(f.config.Now())
}

// endSome removes the pauses that have ended, and returns when the next one ends.
func (f *Follower) endSome(ctx context.Context) time.Duration {
	now := f.config.Now()
	wait := time.Hour
	var ended []entry
	f.mu.Lock()
	for _, e := range f.list {
		switch {
		case e.Until.IsZero():
		case f.dropped[e.key] == e.revision: // the list is of before
		case e.Ended(now):
			ended = append(ended, e)
			wait = min(wait, endAgain)
		default:
			wait = min(wait, e.Until.Sub(now))
		}
	}
	if len(ended) > 0 {
		f.putInForce(now)
	}
	maps.DeleteFunc(f.dropped, func(key string, _ uint64) bool {
		return !slices.ContainsFunc(f.list, func(e entry) bool { return e.key == key })
	})
	f.mu.Unlock()
	if !f.config.Leads() {
		return wait
	}
	for _, e := range ended {
		err := publish(ctx, f.config.Subjects, f.config.Publish, events.PauseChange{Pattern: e.Pattern, Cause: events.CauseExpired, At: e.Until})
		if err == nil {
			f.config.Log.Info("a pause has ended by itself", "pattern", e.Pattern.String())
			err = f.bucket.drop(ctx, e)
		}
		if err == nil {
			f.dropped[e.key] = e.revision
		} else if ctx.Err() == nil {
			f.config.Log.Warn("ending a pause failed and will be retried; it holds nothing any more", "pattern", e.Pattern, "error", err)
		}
	}
	return wait
}

// Await waits until what the bucket was last seen to hold satisfies wanted.
func (f *Follower) Await(ctx context.Context, wanted func([]events.Pause) bool) error {
	for {
		f.mu.Lock()
		list, applied := f.active(time.Time{}), f.applied
		f.mu.Unlock()
		if wanted(list) {
			return nil
		}
		select {
		case <-applied:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
