package handlers

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/time/rate"

	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/internal/natsconn"
	"github.com/rebound-mq/rebound/internal/opstore"
	"github.com/rebound-mq/rebound/internal/streams"
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
// alone, the leader. That is slow on purpose; after a start, a full
// store, or a change of the stream's leader it goes through at once.
type sweeper struct {
	store   *opstore.Store
	clock   *natsconn.Clock
	stream  string // of what waits
	reading jetstream.JetStream
	storage *opstore.Storage
	// leads tells whether this instance is the one that sweeps.
	leads func() bool
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
	return reasons{refusals: s.storage.Refusals(), leader: s.leader()}
}

// run sweeps until ctx ends.
func (s *sweeper) run(ctx context.Context) {
	hasty, known := true, s.reasons()
	for ctx.Err() == nil {
		if s.leads() && s.storage.Problem() == "" {
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
			backoff.Sleep(ctx, time.Second)
			if s.storage.Problem() == "" && s.reasons() != known {
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
	for sequence := uint64(1); sequence <= last && s.leads(); {
		if s.storage.Problem() != "" || !hasty && s.reasons() != known {
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
			backoff.Sleep(ctx, between)
		}
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
	}
	return true, nil
}

// last returns the sequence of the newest of what waits, 0 when nothing does.
func (s *sweeper) last(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, streams.CallTimeout)
	defer cancel()
	stream, err := s.reading.Stream(ctx, s.stream)
	if err != nil {
		return 0, fmt.Errorf("reading stream %s: %w", s.stream, err)
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
	read, cancel := context.WithTimeout(ctx, streams.CallTimeout)
	defer cancel()
	over := s.clock.Now().Add(-forgottenAfter)
	for m, err := range streams.Page(read, s.reading, s.stream, ">", sequence, forgottenPage) {
		if err != nil {
			return 0, fmt.Errorf("reading what waits from %d on: %w", sequence, err)
		}
		next = m.Sequence + 1
		if at, ok := opstore.FiresAt(m); ok && at.Before(over) {
			forgotten = append(forgotten, m)
		}
	}
	return next, s.fire(ctx, forgotten)
}

// fire makes what was forgotten due, by the step that lets an operation out. One that
// was fired after all, or taken by somebody else, is not there any more.
func (s *sweeper) fire(ctx context.Context, forgotten []*jetstream.RawStreamMsg) error {
	n, err := s.store.ReleaseAll(ctx, forgotten, time.Time{})
	if n > 0 {
		s.fired.Add(uint64(n))
		s.log.Warn("operations whose time was over had been forgotten by the NATS server; they are due now", "operations", n)
	}
	return err
}
