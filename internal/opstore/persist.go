package opstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/time/rate"

	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/scheduler"
)

const (
	// firstPause and longestPause bound the pauses between two tries.
	firstPause   = 50 * time.Millisecond
	longestPause = 2 * time.Second
	// firstPending is the first pause when another write is in process; it doubles up to
	// eight times.
	firstPending     = 5 * time.Millisecond
	pendingDoublings = 8
	// warnEvery is how often delayed storing is logged.
	warnEvery = time.Minute
)

// Persister repeats calls of JetStream until their answer is final. It is safe for
// concurrent use.
type Persister struct {
	// storage records how every try ends.
	storage *Storage
	log     *slog.Logger
	warn    rate.Sometimes
	// random is the source of jitter.
	random func() float64
	// delay is how long JetStream takes to answer.
	delay health.Delay
}

// NewPersister returns a persister whose pauses are jittered by random, which returns a
// number in [0,1).
func NewPersister(storage *Storage, log *slog.Logger, random func() float64) *Persister {
	return &Persister{storage: storage, log: log, warn: rate.Sometimes{First: 1, Interval: warnEvery}, random: random}
}

// Delay returns how long JetStream takes to answer, at now.
func (p *Persister) Delay(now time.Time) time.Duration { return p.delay.Get(now) }

// Persist calls do, within [streams.CallTimeout] each time, until it succeeds, fails for good,
// or ctx ends. What passes by itself, such as a server that is away or has no leader, is waited
// out.
func (p *Persister) Persist(ctx context.Context, doing string, do func(context.Context) error) error {
	return p.repeat(ctx, doing, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, streams.CallTimeout)
		defer cancel()
		return do(ctx)
	})
}

// repeat is [Persister.Persist] for a call with a timeout of its own.
func (p *Persister) repeat(ctx context.Context, doing string, do func(context.Context) error) error {
	return p.repeatCalls(ctx, doing, func(ctx context.Context) (int, error) { return 1, do(ctx) })
}

// repeatCalls is [Persister.repeat] for several calls, one after the other; do also returns how
// many.
func (p *Persister) repeatCalls(ctx context.Context, doing string, do func(context.Context) (calls int, err error)) error {
	later := backoff.Backoff{First: firstPause, Longest: longestPause, Random: p.random}
	for try := 1; ; try++ {
		err := p.try(ctx, do)
		var pause time.Duration
		switch answerOf(err) {
		case answerDone:
			return nil
		case answerMoved:
			return scheduler.ErrMoved
		case answerNever:
			return fmt.Errorf("%s: %w", doing, err)
		case answerPending:
			soon := backoff.Backoff{First: firstPending << min(try-1, pendingDoublings), Longest: longestPause, Random: p.random}
			pause = soon.Next()
		case answerNotNow, answerUnknown:
			if ctx.Err() != nil {
				return fmt.Errorf("%s: %w", doing, err)
			}
			// An absent server delays thousands at once.
			p.warn.Do(func() { p.log.Warn("storing is delayed", "doing", doing, "try", try, "error", err) })
			pause = later.Next()
		}
		if !backoff.Sleep(ctx, pause) {
			return fmt.Errorf("%s: %w", doing, err)
		}
	}
}

// try calls do once.
func (p *Persister) try(ctx context.Context, do func(context.Context) (calls int, err error)) error {
	began := time.Now()
	calls, err := do(ctx)
	// A call that timed out took at least that long; one that ctx ended says nothing.
	if err == nil || errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		now := time.Now()
		p.delay.Add(now.Sub(began)/time.Duration(calls), now)
	}
	p.storage.seen(err)
	return err
}
