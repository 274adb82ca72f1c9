package scheduler

import (
	"context"
	"errors"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

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
