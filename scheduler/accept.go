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
	policy, d, failure, err := p.judge(op)
	if err != nil {
		return err
	}
	if done, err := p.repeated(ctx, op, m); err != nil || done {
		return err
	}
	moved := ErrMoved
	if d.Retry {
		// Hardly any submission finds its operation here already, so it is looked
		// for only when it is in the way.
		moved = p.Store.Place(ctx, op, m)
	}
	for round := 0; errors.Is(moved, ErrMoved); round++ {
		if round > 0 {
			if err := p.pauseInDoubt(ctx, op, round-1); err != nil {
				return err
			}
		}
		w, found, err := p.Store.Find(ctx, op)
		switch {
		case err != nil:
			return err
		case found && (w.InFlight || w.Op.Replay > op.Replay || w.Op.Attempt >= op.Attempt):
			return nil
		case found:
			op.Continue(w.Op)
			if p.Now().After(w.Op.Due.Add(-EarlyArming - NearFiring)) {
				Share(op, w.Stored) // it may be fired at this moment
			}
		}
		m.Version, m.Place = w.Version, w.Place
		switch {
		case d.Retry:
			moved = p.Store.Place(ctx, op, m)
		case found:
			moved = p.Store.Remove(ctx, op, m.Version)
		default:
			moved = nil
		}
	}
	switch {
	case errors.Is(moved, ErrTaken):
		return nil
	case moved != nil:
		return moved
	case !d.Retry:
		return p.fail(ctx, policy, op, m, d, failure)
	}
	return p.Store.Scheduled(ctx, op, scheduled(op, d, failure))
}

// judge decides upon the failure that was submitted.
func (p *Pipeline) judge(op *events.Operation) (*policy.Policy, policy.Decision, policy.Failure, error) {
	admitted, err := p.admit(op)
	if err != nil {
		return nil, policy.Decision{}, policy.Failure{}, err
	}
	last, _ := op.Last()
	now := p.Now()
	failure := policy.Failure{Code: last.Code, Message: last.Error}
	if op.RetryAfter.After(now) {
		failure.RetryAfter = op.RetryAfter.Sub(now)
	}
	return admitted, p.decide(admitted, op, failure, 0, now), failure, nil
}

// repeated reports whether a submission that another instance may have taken in led
// to an operation that has ended by now.
func (p *Pipeline) repeated(ctx context.Context, op *events.Operation, m Message) (bool, error) {
	if m.shared() {
		op.Contest(m.Stored)
	}
	return p.concluded(ctx, op)
}

// ErrInTurn says that a submission must wait for its turn.
var ErrInTurn = errors.New("the submission is taken in when its turn comes")

// AcceptAhead takes in a submission before its turn, if it is the first of its
// operation and does not end it; [ErrInTurn] says that it is not, or an
// [*events.RejectedError] why it will be rejected. Nothing is stored then. The
// caller names in op.Ahead which submission it was, and takes that away.
//
// Only what stands in a slot is safe to take ahead: whoever comes upon the
// submission in its turn finds the operation there, because nobody makes an
// attempt before the submission is gone.
func (p *Pipeline) AcceptAhead(ctx context.Context, op *events.Operation, m Message) error {
	_, d, failure, err := p.judge(op)
	if err != nil {
		return err
	}
	if !d.Retry {
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
	return p.Store.Scheduled(ctx, op, scheduled(op, d, failure))
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
	if done, err := p.repeated(ctx, op, m); err != nil || done {
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
