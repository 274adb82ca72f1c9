package scheduler

import (
	"context"
	"errors"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// Accept takes in a submitted operation: it decides on the submitted failure and
// stores the operation as waiting, or ends it. If the operation is here already,
// the submission merges with it: the higher attempt wins. When Accept returns nil
// the submission may be acknowledged; on an [*events.RejectedError] call
// [Pipeline.Reject].
func (p *Pipeline) Accept(ctx context.Context, op *events.Operation, m Message) error {
	pol, v, err := p.judge(op)
	if err != nil {
		return err
	}
	if ended, err := p.endedBefore(ctx, op, m); err != nil || ended {
		return err
	}
	err = ErrMoved
	if v.Retry {
		// Few submissions find their operation here already, so it is only looked up
		// after a conflict.
		err = p.schedule(ctx, op, m, v)
	}
	if errors.Is(err, ErrMoved) {
		m, err = p.supersede(ctx, op, m, v)
	}
	switch {
	case errors.Is(err, ErrTaken):
		return nil
	case err != nil || v.Retry:
		return err
	}
	return p.fail(ctx, pol, op, m, v)
}

// schedule stores the operation as waiting and then publishes the decision.
func (p *Pipeline) schedule(ctx context.Context, op *events.Operation, m Message, v verdict) error {
	return p.Store.Schedule(ctx, op, m, Scheduled(op, v.Decision, v.failure))
}

// supersede replaces the waiting state of a submission's operation: it stores the next
// state, or clears the slot if the submission ends the operation. It returns the
// message with the version that it replaced. [ErrTaken] says that the waiting state
// stays and covers the submission.
func (p *Pipeline) supersede(ctx context.Context, op *events.Operation, m Message, v verdict) (Message, error) {
	for round := 0; ; round++ {
		w, found, err := p.Store.Find(ctx, op)
		switch {
		case err != nil:
			return m, err
		case found && (w.InFlight || w.Op.Replay > op.Replay || w.Op.Attempt >= op.Attempt):
			return m, ErrTaken
		case found:
			p.continueFrom(op, w)
		}
		m.Version, m.Place = w.Version, w.Place
		if found || v.Retry {
			err = p.replace(ctx, op, m, v)
		}
		if !errors.Is(err, ErrMoved) {
			return m, err
		}
		if err := p.pauseInDoubt(ctx, op, round); err != nil {
			return m, err
		}
	}
}

// continueFrom makes op, a submission, continue from its waiting state.
func (p *Pipeline) continueFrom(op *events.Operation, w Waiting) {
	op.Continue(w.Op)
	if p.Now().After(w.Op.Due.Add(-EarlyArming - NearFiring)) {
		Share(op, w.Stored) // it may be fired at this moment
	}
}

// replace stores the next state in place of version m.Version and publishes the decision, or
// removes that version if the operation ends.
func (p *Pipeline) replace(ctx context.Context, op *events.Operation, m Message, v verdict) error {
	if v.Retry {
		return p.schedule(ctx, op, m, v)
	}
	return p.Store.Remove(ctx, op, m.Version)
}

// ErrInTurn says that a submission must wait its turn.
var ErrInTurn = errors.New("the submission is taken in when its turn comes")

// AcceptAhead takes in a submission before its turn if it is the first of its
// operation and does not end it. Otherwise it stores nothing and returns
// [ErrInTurn], or an [*events.RejectedError] if the submission will be rejected.
// The caller names the submission in op.Ahead and removes it.
//
// Only what is stored in a slot is safe to take ahead: whoever gets the submission
// in its turn finds the operation there, because nobody makes an attempt before
// the submission is gone.
func (p *Pipeline) AcceptAhead(ctx context.Context, op *events.Operation, m Message) error {
	_, v, err := p.judge(op)
	if err != nil {
		return err
	}
	if !v.Retry {
		return ErrInTurn
	}
	err = p.schedule(ctx, op, m, v)
	switch {
	case errors.Is(err, ErrMoved):
		return ErrInTurn
	case errors.Is(err, ErrTaken):
		return nil
	}
	return err
}

// Replay stores the operation of the dead letter that op.Dead names as due at once. A
// replay that is here already stays as it is; remains of an earlier run are replaced.
// If left, the stored operation removes the dead letter before its first attempt, so
// that no attempt of the replay is made while the dead letter exists. Otherwise the
// caller removes it.
func (p *Pipeline) Replay(ctx context.Context, op *events.Operation, m Message) (left bool, err error) {
	if _, err := p.admit(op); err != nil {
		return false, err
	}
	if ended, err := p.endedBefore(ctx, op, m); err != nil || ended {
		return false, err
	}
	for round := 0; ; round++ {
		err := p.Store.Place(ctx, op, m)
		switch {
		case err == nil, errors.Is(err, ErrTaken):
			return true, nil
		case !errors.Is(err, ErrMoved):
			return false, err
		}
		w, found, err := p.Store.Find(ctx, op)
		switch {
		case err != nil:
			return false, err
		case found && w.Op.Replay >= op.Replay:
			return w.Op.Dead.Is(op.Dead), nil
		}
		m.Version, m.Place = w.Version, w.Place
		if err := p.pauseInDoubt(ctx, op, round); err != nil {
			return false, err
		}
	}
}

// judge decides on the submitted failure.
func (p *Pipeline) judge(op *events.Operation) (*policy.Policy, verdict, error) {
	pol, err := p.admit(op)
	if err != nil {
		return nil, verdict{}, err
	}
	last, _ := op.Last()
	now := p.Now()
	failure := policy.Failure{Code: last.Code, Message: last.Error}
	if op.RetryAfter.After(now) {
		failure.RetryAfter = op.RetryAfter.Sub(now)
	}
	return pol, verdict{p.decide(pol, op, failure, 0, now), failure}, nil
}

// endedBefore reports whether another instance may have taken the submission in and
// its operation has ended since.
func (p *Pipeline) endedBefore(ctx context.Context, op *events.Operation, m Message) (bool, error) {
	if m.shared() {
		op.Contest(m.Stored)
	}
	return p.concluded(ctx, op)
}
