package opstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
	"golang.org/x/sync/semaphore"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/internal/deadletter"
	"github.com/rebound-mq/rebound/internal/shrink"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/scheduler"
)

const (
	// mostRuns is how many runs of a key are remembered before older ones than needed
	// are dropped, which happens at most once in runsKept.
	mostRuns = 1000
	runsKept = time.Minute
)

// Recovery finds out whether a run has ended that another instance may have had. It is
// needed only after a crash or the like, so it reads the streams on demand instead of
// keeping track all the time.
type Recovery struct {
	store   *Store
	reading jetstream.JetStream
	letters *deadletter.Letters

	mu   sync.Mutex
	keys map[string]*concluded // by service:operation
}

// concluded knows the runs of one key whose outcome is stored.
type concluded struct {
	// reading is acquired to read, so that waiting for it ends with a context.
	reading *semaphore.Weighted
	from    time.Time
	next    uint64
	runs    map[string]struct{}
	// began is when runs began to be remembered, and read when the last complete reading
	// began.
	began time.Time
	read  time.Time
	used  time.Time
}

// NewRecovery returns a recovery that reads the ends of a store's runs over a connection of
// its own.
func NewRecovery(s *Store, reading jetstream.JetStream, letters *deadletter.Letters) *Recovery {
	return &Recovery{store: s, reading: reading, letters: letters, keys: make(map[string]*concluded)}
}

var _ scheduler.Ends = (*Recovery)(nil)

// Concluded implements [scheduler.Ends]. It stores the outcome of an operation if the
// instance that buried it died before it could.
func (r *Recovery) Concluded(ctx context.Context, op *events.Operation, since time.Time) (bool, error) {
	ended, err := r.ended(ctx, op, since)
	if err != nil || ended {
		return ended, err
	}
	d, err := r.buried(ctx, op, since)
	if err != nil || d == nil {
		return false, err
	}
	outcome := d.State.Ended(events.RetryFailed, d.DiedAt)
	outcome.Reason, outcome.Detail = d.Reason, d.Detail
	if last, ok := d.State.Last(); ok {
		outcome.Error = &events.Failure{Code: last.Code, Message: last.Error}
		outcome.Class, outcome.Rule, outcome.DurationMs = last.Class, last.Rule, last.DurationMs
	}
	return true, r.store.Ended(ctx, d.State, scheduler.Message{}, outcome)
}

// buried returns the dead letter of the run, nil when there is none.
func (r *Recovery) buried(ctx context.Context, op *events.Operation, since time.Time) (found *events.DeadLetter, err error) {
	err = r.store.Persist(ctx, "looking for the dead letter of operation "+op.ID, func(ctx context.Context) error {
		found = nil
		d, err := r.letters.Of(ctx, op.Service, op.Operation, op.ID)
		switch {
		case errors.Is(err, deadletter.ErrNotFound):
			return nil
		case err != nil:
			return err
		}
		if d.State != nil && d.State.Replay == op.Replay && d.DiedAt.After(since.Add(-streams.ClockSlack)) && d.State.Attempt >= op.Attempt {
			found = d
		}
		return nil
	})
	return found, err
}

// ended reports whether the outcome of the run is stored. After a crash many messages are
// redelivered at once: callers that arrive during a read wait for the next one and share it.
func (r *Recovery) ended(ctx context.Context, op *events.Operation, since time.Time) (bool, error) {
	asked := time.Now()
	since = since.Add(-streams.ClockSlack)
	r.mu.Lock()
	c := r.keys[op.Key()]
	if c == nil {
		c = &concluded{reading: semaphore.NewWeighted(1)}
		r.keys[op.Key()] = c
	}
	r.mu.Unlock()

	if err := c.reading.Acquire(ctx, 1); err != nil {
		return false, fmt.Errorf("reading the outcomes of %s: %w", op.Key(), err)
	}
	defer c.reading.Release(1)
	c.used = time.Now()
	tooMany := len(c.runs) > mostRuns && since.After(c.from) && asked.Sub(c.began) > runsKept
	if c.runs == nil || since.Before(c.from) || tooMany {
		c.from, c.next, c.runs, c.began, c.read = since, 0, make(map[string]struct{}), asked, time.Time{}
	}
	if c.read.After(asked) {
		_, ended := c.runs[op.Run()]
		return ended, nil
	}
	began := time.Now()
	err := r.store.Persist(ctx, "reading the outcomes of "+op.Key(), func(ctx context.Context) error {
		return c.readOn(ctx, r, r.store.subjects.Outcomes("", op.Service, op.Operation))
	})
	if err != nil {
		return false, err
	}
	c.read = began
	_, ended := c.runs[op.Run()]
	return ended, nil
}

// readOn reads the outcomes that were stored since the last read. Any replica answers, so
// it reads until it reaches the leader's last message.
func (c *concluded) readOn(ctx context.Context, r *Recovery, subject string) error {
	s := r.store
	last, err := streams.LeaderGet(ctx, s.js, s.streams.Outcomes(), streams.LastBySubject(subject))
	if streams.IsGone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if last.Time.Before(c.from) || last.Sequence < c.next {
		return nil
	}
	start := jetstreamext.GetBatchStartTime(c.from)
	if c.next > 0 {
		start = jetstreamext.GetBatchSeq(c.next)
	}
	for m, err := range streams.Scan(ctx, r.reading, s.streams.Outcomes(), subject, start) {
		if err != nil {
			return err
		}
		run := strings.TrimSuffix(wire.HeaderValue(m.Header, jetstream.MsgIDHeader), ".outcome")
		c.runs[strings.Clone(run)] = struct{}{} // so that the rest of the header is not kept alive
		c.next = m.Sequence + 1
	}
	if last.Sequence >= c.next {
		return fmt.Errorf("a replica of stream %s has come to message %d, and the leader to %d", s.streams.Outcomes(), c.next, last.Sequence)
	}
	return nil
}

// Reset drops everything that was read, because the stream of outcomes was made anew.
func (r *Recovery) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.keys)
}

// Forget drops keys that were not asked for in a while.
func (r *Recovery) Forget(olderThan time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := len(r.keys)
	for key, c := range r.keys {
		if c.reading.TryAcquire(1) {
			if time.Since(c.used) > olderThan {
				delete(r.keys, key)
			}
			c.reading.Release(1)
		}
	}
	r.keys = shrink.Map(r.keys, before-len(r.keys))
}
