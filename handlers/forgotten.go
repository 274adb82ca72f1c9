package handlers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/scheduler"
)

const (
	// forgottenAfter is by how much the time of a schedule must be over to count as
	// forgotten. A server that has much to fire at once is a few seconds late.
	forgottenAfter = 5 * time.Second
	// forgottenRest is how long after a pass the next begins.
	forgottenRest = 10 * time.Second
	// forgottenPage is how many messages are read at once, and forgottenPause how long
	// is paused between two pages when there is no reason for haste: then a pass takes
	// a second for each thousand that wait.
	forgottenPage  = 1024
	forgottenPause = time.Second
	hastyPause     = 10 * time.Millisecond
)

// sweeper fires the schedules that the server forgot. A server that could not store
// what it fired, because a store was full, takes it for fired until it is restarted.
//
// It reads the waiting operations page by page, the oldest first, and by one instance
// alone, the one that decides for all. That is slow on purpose; after a start, a full
// store, or a change of the stream's leader it goes through at once.
type sweeper struct {
	store   *store
	reading jetstream.JetStream
	storage *storage
	// decides tells whether this instance is the one that sweeps.
	decides func() bool
	// leader names the server that leads the stream.
	leader func() string
	log    *slog.Logger
	warn   rate.Sometimes

	// fired counts what the server had forgotten.
	fired atomic.Uint64
}

// reasons are what a hasty pass is made for when they change.
type reasons struct {
	refusals uint64
	leader   string
}

func (s *sweeper) reasons() reasons {
	return reasons{refusals: s.storage.refusals.Load(), leader: s.leader()}
}

// run sweeps until ctx ends.
func (s *sweeper) run(ctx context.Context) {
	hasty, known := true, s.reasons()
	for ctx.Err() == nil {
		if s.decides() && s.storage.problem() == "" {
			if now := s.reasons(); now != known {
				hasty, known = true, now
			}
			began := time.Now()
			done, err := s.pass(ctx, hasty, known)
			s.log.Debug("what waits was gone through for what the server forgot", "hasty", hasty, "done", done, "took", time.Since(began))
			if err != nil && ctx.Err() == nil {
				s.warn.Do(func() {
					s.log.Warn("what the server may have forgotten could not be looked for; it is tried again", "error", err)
				})
			}
			hasty = hasty && !done
		}
		for rest := forgottenRest; rest > 0 && ctx.Err() == nil; rest -= time.Second {
			pause(ctx, time.Second)
			if s.storage.problem() == "" && s.reasons() != known {
				break
			}
		}
	}
}

// pass goes through what waits, to what is the end when it begins. done is whether it
// came to that end: one that is not hasty breaks off when there is reason for haste.
func (s *sweeper) pass(ctx context.Context, hasty bool, known reasons) (done bool, err error) {
	last, err := s.last(ctx)
	if err != nil {
		return false, err
	}
	between := forgottenPause
	if hasty {
		between = hastyPause
	}
	for sequence := uint64(1); sequence <= last && s.decides(); {
		if s.storage.problem() != "" || !hasty && s.reasons() != known {
			return false, nil
		}
		next, err := s.page(ctx, sequence)
		if err != nil {
			return false, err
		}
		if next == 0 {
			break
		}
		if sequence = next; sequence <= last {
			pause(ctx, between)
		}
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
	}
	return true, nil
}

// last returns the sequence of the newest of what waits, 0 when nothing does.
func (s *sweeper) last(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	stream, err := s.reading.Stream(ctx, s.store.streams.Waiting())
	if err != nil {
		return 0, fmt.Errorf("reading stream %s: %w", s.store.streams.Waiting(), err)
	}
	state := stream.CachedInfo().State
	if state.Msgs == 0 {
		return 0, nil
	}
	return state.LastSeq, nil
}

// page fires what was forgotten of one page and returns where the next begins, 0 at
// the end. Without a filter by subject the server counts nothing for it.
func (s *sweeper) page(ctx context.Context, sequence uint64) (next uint64, err error) {
	var forgotten []*jetstream.RawStreamMsg
	read, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	over := s.store.clock.Now().Add(-forgottenAfter)
	for m, err := range streams.Page(read, s.reading, s.store.streams.Waiting(), ">", sequence, forgottenPage) {
		if err != nil {
			return 0, fmt.Errorf("reading what waits from %d on: %w", sequence, err)
		}
		next = m.Sequence + 1
		if at, ok := fires(m); ok && at.Before(over) {
			forgotten = append(forgotten, m)
		}
	}
	return next, s.fire(ctx, forgotten)
}

// fires returns when the schedule fires that a message is; ok is false for none.
func fires(m *jetstream.RawStreamMsg) (at time.Time, ok bool) {
	text, ok := strings.CutPrefix(m.Header.Get(headerSchedule), "@at ")
	if !ok {
		return time.Time{}, false
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	return at, err == nil
}

// fire makes what was forgotten due, by the step that lets an operation out. One that
// was fired after all, or taken by somebody else, is not there any more.
func (s *sweeper) fire(ctx context.Context, forgotten []*jetstream.RawStreamMsg) error {
	var group errgroup.Group
	group.SetLimit(releasers)
	var fired atomic.Uint64
	for _, m := range forgotten {
		group.Go(func() error {
			err := s.store.release(ctx, m, time.Time{})
			switch {
			case err == nil:
				fired.Add(1)
			case errors.Is(err, scheduler.ErrMoved):
				return nil
			}
			return err
		})
	}
	err := group.Wait()
	if n := fired.Load(); n > 0 {
		s.fired.Add(n)
		s.log.Warn("operations whose time was over had been forgotten by the NATS server; they are due now", "operations", n)
	}
	return err
}
