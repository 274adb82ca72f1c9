package handlers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/internal/deadletter"
	"github.com/rebound-mq/rebound/internal/intake"
	"github.com/rebound-mq/rebound/internal/natsconn"
	"github.com/rebound-mq/rebound/internal/opstore"
	"github.com/rebound-mq/rebound/internal/pull"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/scheduler"
)

// due delivers due operations to their targets.
type due struct {
	pipeline *scheduler.Pipeline
	store    *opstore.Store
	clock    *natsconn.Clock
	stream   string // of the waiting operations
	// submissions removes the submission of an operation that was taken in before
	// its turn, before the first attempt.
	submissions *intake.Submissions
	letters     *deadletter.Letters
	draining    <-chan struct{}
}

// handle keeps one due operation in hand for the rest of its delay and then
// hands it to the pipeline.
func (d *due) handle(ctx context.Context, t *pull.Message) error {
	op, err := wire.ReadState(t.Headers())
	if err != nil {
		return d.bury(ctx, t, err)
	}
	m := scheduler.Message{Header: t.Headers(), Data: t.Data(), Version: t.Sequence(), Stored: t.Stored(), Shared: t.Shared}
	d.store.ContestFired(ctx, op, m)
	if op.Ahead > 0 {
		if err := d.submissions.Remove(ctx, op); err != nil {
			return err
		}
		op.Ahead = 0
	}
	if op.Dead != nil {
		if err := d.exhume(ctx, op); err != nil {
			return err
		}
	}
	// Whoever made it due earlier than this has a clock that differs.
	if !d.wait(ctx, min(d.clock.Until(op.Due), scheduler.EarlyArming+scheduler.ShortDelay)) {
		t.AwaitPulled()
		return givenBack(d.pipeline.PutBack(ctx, op, m))
	}
	m.Later = func(do func(context.Context) error) error {
		return pull.Later(func(ctx context.Context) error { return givenBack(do(ctx)) })
	}
	return givenBack(d.pipeline.Attempt(ctx, op, m))
}

// givenBack returns the error of the pipeline, or [pull.ErrGiveBack] if the operation should
// go to another instance.
func givenBack(err error) error {
	if errors.Is(err, errInterrupted) || errors.Is(err, context.Canceled) {
		return pull.ErrGiveBack
	}
	return err
}

// exhume removes the dead letter that op replays. If it is gone already, an earlier
// replay may have removed it, and may have begun and ended after the intake saw the
// dead letter and before it stored op: then this is a second run.
func (d *due) exhume(ctx context.Context, op *events.Operation) error {
	gone, behind := false, 0
	err := d.store.Persist(ctx, "removing the dead letter of operation "+op.ID, func(ctx context.Context) error {
		letter, err := d.letters.At(ctx, op.Dead.Sequence)
		if err == nil && letter.Ref().Is(op.Dead) {
			err = d.letters.Discard(ctx, letter)
		} else if err == nil {
			err = deadletter.ErrNotFound
		}
		if errors.Is(err, streams.ErrBehind) {
			behind++
		}
		if gone = errors.Is(err, deadletter.ErrNotFound) || behind > mostBehind; gone {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	if gone {
		// The intake saw the dead letter after the replay was requested, but a newly
		// elected leader may show an older state.
		since := op.Submitted.Add(-events.DedupWindow)
		if op.Dead.DiedAt.After(since) {
			since = op.Dead.DiedAt
		}
		scheduler.Share(op, since)
	}
	op.Dead = nil
	return nil
}

// wait waits and reports whether the time has passed; false means that the instance
// stops.
func (d *due) wait(ctx context.Context, rest time.Duration) bool {
	if rest <= 0 {
		return ctx.Err() == nil
	}
	return backoff.SleepUnless(ctx, rest, d.draining)
}

// bury ends a due message that is not ours: somebody else published it on our subject.
func (d *due) bury(ctx context.Context, t *pull.Message, problem error) error {
	name := fmt.Sprintf("%s-%d", d.stream, t.Sequence())
	op := &events.Operation{
		ID:      events.OperationID("rejected", name, events.Invalid, events.Invalid),
		EventID: name, Source: "/rejected", Service: events.Invalid, Operation: events.Invalid,
		FirstFailure: t.Stored().UTC(), Submitted: t.Stored().UTC(),
	}
	m := scheduler.Message{Subject: t.Subject(), Header: t.Headers(), Data: t.Data()}
	return d.pipeline.Reject(ctx, op, m, problem)
}
