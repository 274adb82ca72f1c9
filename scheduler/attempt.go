package scheduler

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/scheduler/gate"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// Attempt brings a due operation to its target, again and again while the
// delays are short, until it is stored in its next state. Attempts that another
// holder may have made are marked as repeats. When the gate of its key is shut the
// operation is held. When Attempt returns nil the due message may be acknowledged.
func (p *Pipeline) Attempt(ctx context.Context, op *events.Operation, m Message) error {
	silent := op.Work != nil && op.Work.Result == nil
	if silent {
		// A report may have overtaken the watchdog while it fired.
		op.Contest(op.Work.Started)
	}
	if over, err := p.over(ctx, op, m); err != nil || over {
		return err
	}
	if silent {
		return p.overdue(ctx, op, m)
	}
	unstored := p.Now().Add(maxUnstored)
	for n := 1; ; n++ {
		policy, err := p.resolve(op)
		if err != nil {
			return p.Reject(ctx, op, m, err)
		}
		a, err := p.try(ctx, policy, op, m)
		if err != nil || a == nil {
			return err
		}
		if !a.stored && m.shared() {
			op.Contest(m.Stored)
			return p.keep(ctx, op, m, a)
		}
		if over, err := p.over(ctx, op, m); err != nil || over {
			return err
		}
		reply, before := a.reply, *op
		before.History = slices.Clone(op.History)
		op.Attempt++
		if !reply.Failed {
			outcome := op.Ended(events.RetrySuccess, p.Now())
			outcome.Target, outcome.DurationMs = a.subject, events.InMilliseconds(reply.Duration)
			return p.tell(ctx, op, m, outcome)
		}
		op.Record(events.Attempt{
			Number: op.Attempt, At: a.at.UTC(), DurationMs: events.InMilliseconds(reply.Duration),
			Code: reply.Failure.Code, Error: reply.Failure.Message, Repeated: a.repeated,
		})

		now := p.Now()
		op.RetryAfter = time.Time{}
		if after := reply.Failure.RetryAfter; after > 0 {
			op.RetryAfter = now.Add(after).UTC()
		}
		d := p.decide(policy, op, reply.Failure, op.PreviousDelay(), now)
		if !d.Retry && !a.stored {
			// Whoever tells of it, even late, tells of the same end.
			return p.keep(ctx, &before, m, a)
		}
		if !d.Retry {
			return p.fail(ctx, policy, op, m, d, reply.Failure)
		}
		event := scheduled(op, d, reply.Failure)
		if d.Delay >= ShortDelay || d.Due.After(unstored) || n == mostUnstored {
			if err := p.advance(ctx, op, m, p.Store.Place); err != nil {
				return err
			}
			return p.Store.Scheduled(ctx, op, event)
		}
		if err := p.Store.Scheduled(ctx, op, event); err != nil {
			return err
		}
		if !p.wait(ctx, d.Delay) {
			return p.advance(ctx, op, m, p.Store.Place)
		}
	}
}

// made is an attempt that was made.
type made struct {
	subject string
	at      time.Time
	reply   Reply
	// repeated is whether it may have been made before, and stored whether the store
	// knows how it went.
	repeated, stored bool
}

// try makes one attempt, or takes over how a worker's ended. It returns nil when
// the operation is stored in its next state instead: it was held, ended or handed
// over to a worker.
func (p *Pipeline) try(ctx context.Context, policy *policy.Policy, op *events.Operation, m Message) (*made, error) {
	if op.Work != nil {
		return p.worked(ctx, policy, op, m.shared()), nil
	}
	now := p.Now()
	if expired(op, now) {
		return nil, p.expire(ctx, policy, op, m)
	}
	subject := p.target(policy, op)
	if err := p.checkTarget(policy, subject); err != nil {
		return nil, p.Reject(ctx, op, m, err)
	}
	entered := now
	pass, shut, err := p.Gates.Enter(ctx, policy, op, now)
	switch {
	case err != nil:
		return nil, fmt.Errorf("entering the gate of %s: %w", op.Key(), err)
	case shut != nil:
		return nil, p.advance(ctx, op, m, p.Store.Hold)
	}
	if now = p.Now(); expired(op, now) {
		pass.Done(gate.Unused, 0, now)
		return nil, p.expire(ctx, policy, op, m)
	}
	if m.shared() && (op.Contested.IsZero() || now.Sub(entered) > lookAge) {
		// This instance stood still meanwhile, or waited at the gate.
		if over, err := p.over(ctx, op, m); err != nil || over {
			pass.Done(gate.Unused, 0, p.Now())
			return nil, err
		}
	}
	timeout := policy.AttemptTimeout
	if !op.Deadline.IsZero() {
		timeout = min(timeout, op.Deadline.Sub(now))
	}
	if p.Began != nil {
		p.Began(ctx, op, max(now.Sub(op.Due), 0))
	}
	if op.Delivery == events.Publish {
		return nil, p.publish(ctx, op, m, subject, pass, timeout)
	}
	repeated := op.Attempt < op.Repeats || m.shared()
	reply, err := p.deliver(ctx, policy, op, m, subject, repeated, timeout)
	pass.Done(resultOf(reply, err), reply.Duration, p.Now())
	if err != nil {
		return nil, fmt.Errorf("attempt %d of operation %s: %w", op.Attempt+1, op.ID, err)
	}
	p.attempted(ctx, op, reply)
	return &made{subject: subject, at: now, reply: reply, repeated: repeated}, nil
}

// expired reports whether the operation's deadline is over.
func expired(op *events.Operation, now time.Time) bool {
	return !op.Deadline.IsZero() && !now.Before(op.Deadline)
}

// expire ends an operation whose deadline is over.
func (p *Pipeline) expire(ctx context.Context, by *policy.Policy, op *events.Operation, m Message) error {
	last, _ := op.Last()
	return p.fail(ctx, by, op, m, policy.Decision{Reason: events.ReasonDeadline}, policy.Failure{Code: last.Code, Message: last.Error})
}

// deliver makes one attempt and has it measured. Submissions are not measured:
// nobody hears of the operations that succeeded meanwhile.
func (p *Pipeline) deliver(ctx context.Context, policy *policy.Policy, op *events.Operation, m Message, subject string, repeated bool, timeout time.Duration) (Reply, error) {
	if p.Health == nil {
		return p.Target.Deliver(ctx, op, m, subject, op.Attempt+1, repeated, timeout)
	}
	p.Health.Begin(op.Service)
	result, response := health.Unknown, health.NoResponse
	defer func() { p.Health.End(op.Service, result, response, p.Now()) }()
	reply, err := p.Target.Deliver(ctx, op, m, subject, op.Attempt+1, repeated, timeout)
	if err == nil {
		result, response = healthOf(reply, policy.AttemptTimeout)
	}
	return reply, err
}

// healthOf returns what an attempt says of its target's health. A failure has a
// response time only when the attempt ran into the policy's whole timeout, for
// the response would have taken that long at least; a target that refuses is
// quick, and not because it is well.
func healthOf(reply Reply, timeout time.Duration) (health.Result, time.Duration) {
	switch {
	case !reply.Failed:
		return health.Succeeded, reply.Duration
	case !reply.Failure.Unhealthy():
		return health.Unknown, health.NoResponse
	case reply.Duration >= timeout:
		return health.Failed, reply.Duration
	}
	return health.Failed, health.NoResponse
}

// resultOf returns what an attempt says of its target's health to a gate; err
// means that it is not known how it went.
func resultOf(reply Reply, err error) gate.Result {
	switch {
	case err != nil:
		return gate.Unused
	case !reply.Failed:
		return gate.Success
	}
	return reply.Failure.Result()
}

func (p *Pipeline) attempted(ctx context.Context, op *events.Operation, reply Reply) {
	if p.Attempted != nil {
		p.Attempted(ctx, op, reply)
	}
}

// keep stores how an attempt went before anything follows from it: another holder may
// have made it too, or may make it before it is known here that a dead letter is
// stored. The first result that is stored counts, and whoever takes the operation
// next concludes the attempt.
func (p *Pipeline) keep(ctx context.Context, op *events.Operation, m Message, a *made) error {
	ended := a.at.Add(a.reply.Duration).UTC()
	result := &events.WorkResult{
		At: ended, Failed: a.reply.Failed, Code: a.reply.Failure.Code, Error: a.reply.Failure.Message, Counted: true,
	}
	if after := a.reply.Failure.RetryAfter; after > 0 {
		result.RetryAfter = p.Now().Add(after).UTC()
	}
	op.Work = &events.Work{Token: op.Run(), Attempt: op.Attempt + 1, Target: a.subject, Started: a.at.UTC()}
	return p.advance(ctx, op, m, func(ctx context.Context, op *events.Operation, m Message) error {
		return p.result(ctx, op, m, result)
	})
}
