package scheduler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rebound-mq/rebound/events"
)

// Refusal is why a report is refused.
type Refusal string

// The refusals.
const (
	// RefusedUnknown: no operation of that id waits for a report. It was never here
	// or has ended.
	RefusedUnknown Refusal = "unknown"
	// RefusedOld: the attempt has ended, by another report or by the watchdog.
	RefusedOld Refusal = "old"
	// RefusedForged: the token is not the attempt's.
	RefusedForged Refusal = "forged"
	// RefusedInvalid: the report cannot be read.
	RefusedInvalid Refusal = "invalid"
)

// RefusedError says why a report is refused. A refused report has no effect.
type RefusedError struct {
	Refusal Refusal
	Problem error
}

// Error implements error.
func (e *RefusedError) Error() string { return "the report is refused: " + e.Problem.Error() }

// Unwrap returns the problem.
func (e *RefusedError) Unwrap() error { return e.Problem }

func refused(why Refusal, layout string, args ...any) *RefusedError {
	return &RefusedError{Refusal: why, Problem: fmt.Errorf(layout, args...)}
}

// Report takes in a worker's report on an attempt; at is when the worker sent it. A
// result is stored, and the next holder of the operation concludes the attempt. A
// worker that is still working restarts its watchdog. A report that repeats the stored
// result changes nothing. The error is a [*RefusedError] if no attempt waits for this
// report; on any other error the report must be redelivered.
func (p *Pipeline) Report(ctx context.Context, service, operation string, r events.Report, at time.Time) error {
	for round := 0; ; round++ {
		w, found, err := p.Store.Find(ctx, &events.Operation{ID: r.ID, Service: service, Operation: operation})
		if errors.Is(err, ErrForeign) {
			return refused(RefusedUnknown, "operation %s: %w", r.ID, err)
		}
		if err != nil {
			return err
		}
		repeats, err := check(w, found, r)
		if unknown(err) && round < reportRounds && p.pauseInDoubt(ctx, &events.Operation{ID: r.ID}, round) == nil {
			// A stale read does not see the operation yet.
			continue
		}
		if err != nil || repeats {
			return err
		}
		err = p.storeReport(ctx, w, r, at)
		if !errors.Is(err, ErrMoved) {
			return err
		}
		if err := p.pauseInDoubt(ctx, w.Op, round); err != nil {
			return err
		}
	}
}

// storeReport stores what a report says of an attempt that waits for it.
func (p *Pipeline) storeReport(ctx context.Context, w Waiting, r events.Report, at time.Time) error {
	if !p.Now().Before(w.Op.Due.Add(-nearWatchdog(w.Op))) {
		// The watchdog has fired, or is firing, which the store need not see. The run
		// may have gone on without this report.
		w.Op.Fork(w.Op.Work.Started)
	}
	m := Message{Header: w.Header, Data: w.Data, Version: w.Version, Place: w.Place, Stored: w.Stored}
	if r.Result == events.Working {
		return p.extend(ctx, w.Op, m, at)
	}
	result := &events.WorkResult{At: at.UTC(), Failed: r.Result == events.Failed, Code: r.Code, Error: r.Error}
	if r.RetryAfterMs > 0 {
		result.RetryAfter = at.Add(events.Milliseconds(r.RetryAfterMs)).UTC()
	}
	return p.placeResult(ctx, w.Op, m, result)
}

// nearWatchdog is how close to the firing of an attempt's watchdog a report may
// collide with it: for the time of a write, but not most of a short attempt.
func nearWatchdog(op *events.Operation) time.Duration {
	return min(NearFiring, op.Due.Sub(op.Work.Started)/4)
}

// reportRounds is how often the operation of a report is looked up again before the
// report is refused, over a third of a second.
const reportRounds = 3

// unknown reports whether a report is refused because nothing is known of its attempt.
func unknown(err error) bool {
	var refused *RefusedError
	return errors.As(err, &refused) && refused.Refusal == RefusedUnknown
}

// check returns an error unless the operation waits for the report. repeats is whether
// its result is stored already.
func check(w Waiting, found bool, r events.Report) (repeats bool, err error) {
	if !found {
		return false, refused(RefusedUnknown, "operation %s is not here", r.ID)
	}
	work := w.Op.Work
	switch {
	case work == nil && r.Attempt <= w.Op.Attempt, work != nil && r.Attempt < work.Attempt:
		return false, refused(RefusedOld, "attempt %d of operation %s has ended", r.Attempt, r.ID)
	case work == nil || r.Attempt != work.Attempt:
		return false, refused(RefusedUnknown, "attempt %d of operation %s was not made", r.Attempt, r.ID)
	case !work.HasToken(r.Token):
		return false, refused(RefusedForged, "the token is not that of attempt %d of operation %s", r.Attempt, r.ID)
	case work.Result == nil:
		return false, nil
	case r.Result != events.Working && work.Result.Failed == (r.Result == events.Failed) && work.Result.Code == r.Code:
		return true, nil
	}
	return false, refused(RefusedOld, "attempt %d of operation %s has ended", r.Attempt, r.ID)
}

// extend restarts the watchdog.
func (p *Pipeline) extend(ctx context.Context, op *events.Operation, m Message, at time.Time) error {
	pol, err := p.resolve(op)
	if err != nil {
		return fmt.Errorf("the policy of operation %s: %w", op.ID, err)
	}
	due := at.Add(pol.AttemptTimeout)
	if !op.Deadline.IsZero() && due.After(op.Deadline) {
		due = op.Deadline
	}
	if !due.After(op.Due) {
		return nil
	}
	op.Due = due.UTC()
	_, err = p.Store.Watch(ctx, op, m)
	return err
}
