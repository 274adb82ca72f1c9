package handlers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler"
)

// due brings due operations to their targets.
type due struct {
	pipeline *scheduler.Pipeline
	store    *store
	// submissions are taken away before the first attempt at what was taken in
	// before its turn.
	submissions *submissions
	draining    <-chan struct{}
}

// handle keeps one due operation in hand for the rest of its delay and then
// hands it to the pipeline.
func (d *due) handle(ctx context.Context, t *taken) error {
	op, err := events.FromHeader(t.Headers())
	if err != nil {
		return d.bury(ctx, t, err)
	}
	if op.Ahead > 0 {
		if err := d.submissions.remove(ctx, op); err != nil {
			return err
		}
		op.Ahead = 0
	}
	// Whoever made it due earlier than this is of another opinion on the time.
	if !d.wait(ctx, min(d.store.clock.Until(op.Due), scheduler.EarlyArming+scheduler.ShortDelay)) {
		return errRelease
	}
	m := scheduler.Message{Header: t.Headers(), Data: t.Data(), Version: t.meta.Sequence.Stream, Stored: t.meta.Timestamp, Shared: t.shared}
	err = d.pipeline.Attempt(ctx, op, m)
	if errors.Is(err, errInterrupted) || errors.Is(err, context.Canceled) {
		return errRelease
	}
	return err
}

// wait reports whether the time is over; false means that the instance stops.
func (d *due) wait(ctx context.Context, rest time.Duration) bool {
	if rest <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(rest)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-d.draining:
	case <-ctx.Done():
	}
	return false
}

// bury ends a due message that is none of ours: somebody else published on our
// subject.
func (d *due) bury(ctx context.Context, t *taken, problem error) error {
	name := fmt.Sprintf("%s-%d", d.store.streams.Waiting(), t.meta.Sequence.Stream)
	op := &events.Operation{
		ID:      events.OperationID("rejected", name, events.Invalid, events.Invalid),
		EventID: name, Source: "/rejected", Service: events.Invalid, Operation: events.Invalid,
		FirstFailure: t.meta.Timestamp.UTC(), Submitted: t.meta.Timestamp.UTC(),
	}
	m := scheduler.Message{Subject: t.Subject(), Header: t.Headers(), Data: t.Data()}
	return d.pipeline.Reject(ctx, op, m, problem)
}
