package scheduler

import (
	"context"
	"errors"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// Accept takes in a submitted operation: it decides upon the failure that was
// submitted and stores the operation as waiting, or ends it. An operation that
// is here already takes the submission in: the higher attempt wins. When Accept
// returns nil the submission may be acknowledged; an [*events.RejectedError]
// asks for [Pipeline.Reject].
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
		// Hardly any submission finds its operation here already, so it is looked
		// for only when it is in the way.
		err = p.Store.Place(ctx, op, m)
	}
	if errors.Is(err, ErrMoved) {
		m, err = p.supersede(ctx, op, m, v)
	}
	switch {
	case errors.Is(err, ErrTaken):
		return nil
	case err != nil:
		return err
	case !v.Retry:
		return p.fail(ctx, pol, op, m, v)
	}
	return p.Store.Scheduled(ctx, op, Scheduled(op, v.Decision, v.failure))
}

// supersede puts a submission in the place of what waits there of its operation: it
// stores the next state, or clears the slot when the submission ends the operation. It
// returns the message with the version that it replaced. [ErrTaken] says that what is
// here takes the submission in instead.
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

// continueFrom makes op, a submission, go on from what waits of it.
func (p *Pipeline) continueFrom(op *events.Operation, w Waiting) {
	op.Continue(w.Op)
	if p.Now().After(w.Op.Due.Add(-EarlyArming - NearFiring)) {
		Share(op, w.Stored) // it may be fired at this moment
	}
}

// replace stores the next state in the place of version m.Version, or removes that
// version when the operation ends.
func (p *Pipeline) replace(ctx context.Context, op *events.Operation, m Message, v verdict) error {
	if v.Retry {
		return p.Store.Place(ctx, op, m)
	}
	return p.Store.Remove(ctx, op, m.Version)
}

// ErrInTurn says that a submission must wait for its turn.
var ErrInTurn = errors.New("the submission is taken in when its turn comes")

// AcceptAhead takes in a submission before its turn, if it is the first of its
// operation and does not end it; [ErrInTurn] says that it is not, or an
// [*events.RejectedError] why it will be rejected. Nothing is stored then. The
// caller names in op.Ahead which submission it was, and removes that.
//
// Only what stands in a slot is safe to take ahead: whoever comes upon the
// submission in its turn finds the operation there, because nobody makes an
// attempt before the submission is gone.
func (p *Pipeline) AcceptAhead(ctx context.Context, op *events.Operation, m Message) error {
	_, v, err := p.judge(op)
	if err != nil {
		return err
	}
	if !v.Retry {
		return ErrInTurn
	}
	err = p.Store.Place(ctx, op, m)
	switch {
	case errors.Is(err, ErrMoved):
		return ErrInTurn
	case errors.Is(err, ErrTaken):
		return nil
	case err != nil:
		return err
	}
	return p.Store.Scheduled(ctx, op, Scheduled(op, v.Decision, v.failure))
}

// Replay stores the operation of a dead letter, which op.Dead names, as due at once.
// One whose replay is here already stays as it is; what is left over of an earlier run
// is replaced. left is whether the dead letter is left to the operation that is stored:
// it is removed before the first attempt, so that while it stands no run of its replay
// has begun. Otherwise the caller removes it.
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

// judge decides upon the failure that was submitted.
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

// endedBefore reports whether a submission that another instance may have taken in led
// to an operation that has ended by now.
func (p *Pipeline) endedBefore(ctx context.Context, op *events.Operation, m Message) (bool, error) {
	if m.shared() {
		op.Contest(m.Stored)
	}
	return p.concluded(ctx, op)
}
