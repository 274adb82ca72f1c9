package keeper

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/time/rate"

	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/internal/opstore"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/internal/wording"
)

const (
	// forgottenAfter is how long after its time a schedule counts as forgotten. A server
	// with much to fire at once is a few seconds late.
	forgottenAfter = 5 * time.Second
	// sweepRest is the pause between two passes.
	sweepRest = 10 * time.Second
	// sweepPage is how many messages are read at once. sweepPause is the pause between
	// two pages without reason for haste: a pass then takes a second for each thousand
	// messages.
	sweepPage  = 1024
	sweepPause = time.Second
	hastyPause = 10 * time.Millisecond
	// warnEvery is how often a failed pass is logged.
	warnEvery = time.Minute
)

// Sweeper fires the schedules that the server forgot. A server that could not store what
// it fired, because a store was full, considers it fired until it is restarted.
//
// The leader of the instances reads the waiting operations page by page, the oldest first.
// That is slow on purpose; after a start, a full store, or a change of the stream's leader
// it reads them without pauses.
type Sweeper struct {
	store  *opstore.Store
	config SweeperConfig
	warn   rate.Sometimes

	// overdue counts the operations found forgotten that could not be made due yet, forgotten
	// those that were made due since the start.
	overdue, forgotten atomic.Int64
}

// SweeperConfig configures a [Sweeper]. All of it is required.
type SweeperConfig struct {
	// Reading is JetStream on a connection for bulk reads, and Stream the stream of the
	// waiting operations.
	Reading jetstream.JetStream
	Stream  string
	Storage *opstore.Storage
	// Leads reports whether this instance is the one that sweeps.
	Leads func() bool
	// StreamLeader names the server that leads the stream.
	StreamLeader func() string
	// Now is the server's time.
	Now func() time.Time
	Log *slog.Logger
}

// NewSweeper returns a sweeper that fires forgotten schedules through store.
func NewSweeper(store *opstore.Store, config SweeperConfig) *Sweeper {
	return &Sweeper{store: store, config: config, warn: rate.Sometimes{First: 1, Interval: warnEvery}}
}

// reasons are what calls for a hasty pass when it changes.
type reasons struct {
	refusals uint64
	leader   string
}

// Overdue returns how many operations whose time was over by more than five seconds the last
// pass had to leave, because nothing can be stored. It is 0 at all instances but the leader.
func (s *Sweeper) Overdue() int { return int(s.overdue.Load()) }

// Forgotten returns how many operations that the server had forgotten this instance has made
// due since it started.
func (s *Sweeper) Forgotten() uint64 { return uint64(s.forgotten.Load()) }

// Problem says that operations are overdue, empty if none is known to be.
func (s *Sweeper) Problem() string {
	n := s.Overdue()
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%s overdue: the NATS server did not fire the schedule in time, and nothing can be made due until it can store", wording.Many(n, "operation"))
}

func (s *Sweeper) reasons() reasons {
	return reasons{refusals: s.config.Storage.Refusals(), leader: s.config.StreamLeader()}
}

// full reports whether nothing can be stored.
func (s *Sweeper) full() bool { return s.config.Storage.Problem() != "" }

// pace is how a pass is made.
type pace struct {
	hasty bool
	// known are the reasons for haste as of the pass.
	known reasons
}

// Run sweeps until ctx ends.
func (s *Sweeper) Run(ctx context.Context) {
	p := pace{hasty: true, known: s.reasons()}
	for ctx.Err() == nil {
		if s.config.Leads() {
			p = s.sweep(ctx, p)
		} else {
			s.overdue.Store(0)
		}
		s.rest(ctx, p)
	}
}

// sweep makes a pass and returns the pace of the next.
func (s *Sweeper) sweep(ctx context.Context, p pace) pace {
	if now := s.reasons(); now != p.known {
		p = pace{hasty: true, known: now}
	}
	began := time.Now()
	done, err := s.pass(ctx, p)
	s.config.Log.Debug("a sweep for forgotten schedules ended", "hasty", p.hasty, "done", done, "took", time.Since(began))
	if err != nil && ctx.Err() == nil {
		s.warn.Do(func() {
			s.config.Log.Warn("the sweep for forgotten schedules failed and will be retried", "error", err)
		})
	}
	p.hasty = p.hasty && !done
	return p
}

// rest waits until the next pass, or until there is a new reason for haste.
func (s *Sweeper) rest(ctx context.Context, p pace) {
	for rest := sweepRest; rest > 0; rest -= time.Second {
		if !backoff.Sleep(ctx, time.Second) || !s.full() && s.reasons() != p.known {
			return
		}
	}
}

// pass goes through what waits, up to the end as of its beginning. done is whether it got
// there and left nothing overdue: a pass that is not hasty breaks off when there is reason for
// haste, and while nothing can be stored it only counts.
func (s *Sweeper) pass(ctx context.Context, p pace) (done bool, err error) {
	last, err := s.last(ctx)
	if err != nil {
		return false, err
	}
	pause := sweepPause
	if p.hasty {
		pause = hastyPause
	}
	left := int64(0)
	for sequence := uint64(1); sequence != 0 && sequence <= last && s.config.Leads(); {
		if !p.hasty && !s.full() && s.reasons() != p.known {
			return false, nil
		}
		next, leaves, err := s.page(ctx, sequence, left)
		left += int64(leaves)
		switch {
		case err != nil:
			return false, err
		case next != 0 && next <= last && !backoff.Sleep(ctx, pause):
			return false, ctx.Err()
		}
		sequence = next
	}
	s.overdue.Store(left)
	return left == 0, ctx.Err()
}

// last returns the sequence of the newest waiting message, 0 if nothing waits.
func (s *Sweeper) last(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, streams.CallTimeout)
	defer cancel()
	stream, err := s.config.Reading.Stream(ctx, s.config.Stream)
	if err != nil {
		return 0, fmt.Errorf("reading stream %s: %w", s.config.Stream, err)
	}
	state := stream.CachedInfo().State
	if state.Msgs == 0 {
		return 0, nil
	}
	return state.LastSeq, nil
}

// page fires the forgotten schedules of one page. It returns where the next begins, 0 at the
// end, and how many it had to leave. earlier is how many were left of the pages before. It has
// no subject filter, so that the server need not count matches.
func (s *Sweeper) page(ctx context.Context, sequence uint64, earlier int64) (next uint64, left int, err error) {
	var forgotten []*jetstream.RawStreamMsg
	read, cancel := context.WithTimeout(ctx, streams.CallTimeout)
	defer cancel()
	over := s.config.Now().Add(-forgottenAfter)
	for m, err := range streams.Page(read, s.config.Reading, s.config.Stream, ">", sequence, sweepPage) {
		if err != nil {
			return 0, 0, fmt.Errorf("reading the waiting operations from %d on: %w", sequence, err)
		}
		next = m.Sequence + 1
		if at, ok := opstore.FiresAt(m); ok && at.Before(over) {
			forgotten = append(forgotten, m)
		}
	}
	left, err = s.fire(ctx, forgotten, earlier)
	return next, left, err
}

// fire makes the forgotten operations due, by the same step that lets an operation out, and
// returns how many it had to leave. It passes over those that were fired after all, or taken by
// somebody else. They are overdue until then, which takes as long as nothing can be stored, if
// that shows only now.
func (s *Sweeper) fire(ctx context.Context, forgotten []*jetstream.RawStreamMsg, earlier int64) (left int, err error) {
	s.overdue.Store(max(s.overdue.Load(), earlier+int64(len(forgotten)))) // the last pass may know of more to come
	if s.full() {
		return len(forgotten), nil
	}
	n, err := s.store.ReleaseAll(ctx, forgotten, time.Time{})
	if n > 0 {
		s.forgotten.Add(int64(n))
		s.config.Log.Warn("operations whose time was over had been forgotten by the NATS server; they are due now", "operations", n)
	}
	if err != nil {
		left = len(forgotten) - n
	}
	return left, err
}
