package scheduler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/scheduler/gate"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// Attempt delivers a due operation to its target, repeatedly while the delays are
// short, until it is stored in its next state. Attempts that another holder may
// have made are marked as repeats. If the gate of its key is shut, the operation is
// held. When Attempt returns nil the due message may be acknowledged.
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
		return p.watchdogFired(ctx, op, m)
	}
	return p.attemptUntilStored(ctx, op, m)
}

// PutBack stores a due operation anew for another instance, because this one stops. Were its
// message given back instead, it would count as delivered before, and the attempt that
// follows as a repeat. When PutBack returns nil the due message may be acknowledged.
func (p *Pipeline) PutBack(ctx context.Context, op *events.Operation, m Message) error {
	if over, err := p.over(ctx, op, m); err != nil || over {
		return err
	}
	return p.advance(ctx, op, m, p.Store.Place)
}

// attemptUntilStored makes attempts until the operation is stored in its next state:
// before a long delay, and after mostUnstored attempts or maxUnstored in memory.
func (p *Pipeline) attemptUntilStored(ctx context.Context, op *events.Operation, m Message) error {
	storeBy := p.Now().Add(maxUnstored)
	for n := 1; ; n++ {
		v, err := p.attemptAndDecide(ctx, op, m)
		if err != nil || !v.Retry {
			return err
		}
		if v.Delay >= ShortDelay || v.Due.After(storeBy) || n == mostUnstored {
			return p.park(ctx, op, m, v)
		}
		if err := p.Store.Scheduled(ctx, op, Scheduled(op, v.Decision, v.failure)); err != nil {
			return err
		}
		if !backoff.SleepUnless(ctx, v.Delay, p.Draining) {
			return p.advance(ctx, op, m, p.Store.Place)
		}
	}
}

// attemptAndDecide makes one attempt and decides what follows. If the verdict has no
// Retry, the operation is stored in its next state.
func (p *Pipeline) attemptAndDecide(ctx context.Context, op *events.Operation, m Message) (verdict, error) {
	defer p.Gates.Leave(op)
	for {
		pol, err := p.resolve(op)
		if err != nil {
			return verdict{}, p.Reject(ctx, op, m, err)
		}
		a, err := p.attemptOnce(ctx, pol, op, m)
		var notYet notYetError
		switch {
		case errors.As(err, &notYet):
			if again, err := p.stayInHand(ctx, pol, op, m, notYet); err != nil || !again {
				return verdict{}, err
			}
		case err != nil || a == nil:
			return verdict{}, err
		default:
			return p.concludeAttempt(ctx, pol, op, m, a)
		}
	}
}

// notYetError says that no attempt was made, because nobody listens on the target of an operation
// or its breaker is open. The operation may stay in hand until next if it probes.
type notYetError struct {
	cause  gate.Cause
	next   time.Time
	probes bool
}

func (e notYetError) Error() string { return "no attempt can be made yet: " + string(e.cause) }

// stayInHand keeps a prober in hand until it may ask again, and holds any other operation.
// again is false if the operation is stored in its next state.
func (p *Pipeline) stayInHand(ctx context.Context, pol *policy.Policy, op *events.Operation, m Message, e notYetError) (again bool, err error) {
	if !e.probes {
		return false, p.hold(ctx, pol, op, m, e.cause)
	}
	now := p.Now()
	until, ok := mayWait(pol, op, e.cause, now)
	if !ok {
		return false, p.endAs(ctx, pol, op, m, inVain(e.cause))
	}
	wait := e.next.Sub(now)
	if !until.IsZero() {
		wait = min(wait, until.Sub(now))
	}
	op.Due = now.Add(wait).UTC() // what it waits here is not lateness
	if backoff.SleepUnless(ctx, max(wait, 0), p.Draining) {
		return true, nil
	}
	return false, p.advance(ctx, op, m, p.Store.Place)
}

// park stores the operation as waiting and then publishes the decision.
func (p *Pipeline) park(ctx context.Context, op *events.Operation, m Message, v verdict) error {
	return p.advance(ctx, op, m, func(ctx context.Context, op *events.Operation, m Message) error {
		return p.schedule(ctx, op, m, v)
	})
}

// attemptResult is the result of an attempt.
type attemptResult struct {
	subject string
	at      time.Time
	reply   Reply
	// repeated is whether the attempt may have been made before, and stored whether
	// the store has its result.
	repeated, stored bool
}

// concludeAttempt writes the result of an attempt into the operation and decides what
// follows. If the verdict has no Retry, the operation is stored in its next state.
func (p *Pipeline) concludeAttempt(ctx context.Context, pol *policy.Policy, op *events.Operation, m Message, a *attemptResult) (verdict, error) {
	if !a.stored && m.shared() {
		Share(op, m.Stored)
		return verdict{}, p.storeResult(ctx, op, m, a)
	}
	if over, err := p.over(ctx, op, m); err != nil || over {
		return verdict{}, err
	}
	before := *op
	before.History = slices.Clone(op.History)
	op.Attempt++
	if !a.reply.Failed {
		outcome := op.Ended(events.RetrySuccess, p.Now())
		outcome.Target, outcome.DurationMs = a.subject, events.InMilliseconds(a.reply.Duration)
		return verdict{}, p.publishOutcome(ctx, op, m, outcome)
	}
	v := p.decideAfter(pol, op, a)
	switch {
	case v.Retry:
		return v, nil
	case !a.stored:
		// Every holder that publishes the end, even late, then publishes the same.
		return verdict{}, p.storeResult(ctx, &before, m, a)
	}
	return verdict{}, p.fail(ctx, pol, op, m, v)
}

// decideAfter records a failed attempt in the operation and decides what follows.
func (p *Pipeline) decideAfter(pol *policy.Policy, op *events.Operation, a *attemptResult) verdict {
	failure := a.reply.Failure
	op.Record(events.Attempt{
		Number: op.Attempt, At: a.at.UTC(), DurationMs: events.InMilliseconds(a.reply.Duration),
		Code: failure.Code, Error: failure.Message, Repeated: a.repeated,
	})
	now := p.Now()
	op.RetryAfter = time.Time{}
	if failure.RetryAfter > 0 {
		op.RetryAfter = now.Add(failure.RetryAfter).UTC()
	}
	return verdict{p.decide(pol, op, failure, op.PreviousDelay(), now), failure}
}

// attemptOnce makes one attempt, or adopts the result of a worker's. It returns nil if
// the operation was stored in its next state instead: held, ended or handed to a
// worker.
func (p *Pipeline) attemptOnce(ctx context.Context, pol *policy.Policy, op *events.Operation, m Message) (*attemptResult, error) {
	if op.Work != nil {
		return p.workerResult(ctx, pol, op, m), nil
	}
	now := p.Now()
	if expired(op, now) {
		return nil, p.expire(ctx, pol, op, m)
	}
	subject := p.target(pol, op)
	if err := p.checkTarget(pol, subject); err != nil {
		return nil, p.Reject(ctx, op, m, err)
	}
	in, err := p.enter(ctx, pol, op, m, subject, now)
	if err != nil || !in.ok {
		return nil, err
	}
	a := Attempt{Subject: subject, Number: op.Attempt + 1, Timeout: pol.AttemptTimeout}
	if !op.Deadline.IsZero() {
		a.Timeout = min(a.Timeout, op.Deadline.Sub(in.at))
	}
	if op.Delivery == events.Publish {
		return p.attemptByPublish(ctx, pol, op, m, a, in)
	}
	return p.attemptByRequest(ctx, pol, op, m, a, in)
}

// attemptByRequest makes an attempt whose result is the answer to a request.
func (p *Pipeline) attemptByRequest(ctx context.Context, pol *policy.Policy, op *events.Operation, m Message, a Attempt, in entry) (*attemptResult, error) {
	a.Repeated = op.Attempt < op.Repeats || m.shared()
	reply, err := p.deliver(ctx, pol, op, m, a)
	now := p.Now()
	if err == nil && reply.Absent && pol.NoResponders == policy.AwaitResponders {
		return nil, missed(in.pass, now)
	}
	p.began(ctx, op, in)
	if err != nil {
		in.pass.Done(gate.Unused, 0, now)
		return nil, fmt.Errorf("attempt %d of operation %s: %w", a.Number, op.ID, err)
	}
	in.pass.Answered(reply, now)
	if !reply.Absent {
		in.pass.Met(now)
	}
	p.attempted(ctx, op, reply)
	return &attemptResult{subject: a.Subject, at: in.at, reply: reply, repeated: a.Repeated}, nil
}

// attemptByPublish hands the operation to a worker, or returns the result of an attempt
// whose target no stream captures.
func (p *Pipeline) attemptByPublish(ctx context.Context, pol *policy.Policy, op *events.Operation, m Message, a Attempt, in entry) (*attemptResult, error) {
	captured := p.Publisher.Captured(ctx, a.Subject)
	switch {
	case captured:
		in.pass.Met(p.Now())
		p.began(ctx, op, in)
		return nil, p.publish(ctx, pol, op, m, a, in.pass)
	case pol.NoResponders == policy.AwaitResponders:
		return nil, missed(in.pass, p.Now())
	}
	p.began(ctx, op, in)
	reply := Reply{Failed: true, Failure: NoStream(a.Subject), Absent: true}
	in.pass.Answered(reply, p.Now())
	p.attempted(ctx, op, reply)
	return &attemptResult{subject: a.Subject, at: in.at, reply: reply}, nil
}

// missed gives the pass back because nobody was reached.
func missed(pass Pass, now time.Time) error {
	next, probes := pass.Missed(now)
	return notYetError{gate.CauseAbsent, next, probes}
}

// began calls Began.
func (p *Pipeline) began(ctx context.Context, op *events.Operation, in entry) {
	if p.Began != nil {
		p.Began(ctx, op, max(in.at.Sub(op.Due), 0))
	}
}

// entry is the permission for an attempt, with the time when a gate gave it. Without
// ok there is none, and the operation is stored in its next state.
type entry struct {
	pass Pass
	at   time.Time
	ok   bool
}

// enter asks the gate to permit an attempt and rechecks what may have changed while it
// waited there.
func (p *Pipeline) enter(ctx context.Context, pol *policy.Policy, op *events.Operation, m Message, subject string, asked time.Time) (entry, error) {
	pass, shut, err := p.Gates.Enter(ctx, pol, op, subject, asked)
	if err != nil {
		return entry{}, fmt.Errorf("entering the gate of %s: %w", op.Key(), err)
	}
	now := p.Now()
	notePause(pol, op, shut != nil && shut.Cause == gate.CausePaused, now)
	if shut != nil {
		if next, ok := p.Gates.AwaitProbe(op, shut, now); ok {
			return entry{}, notYetError{gate.CauseBreaker, next, true}
		}
		return entry{}, p.hold(ctx, pol, op, m, shut.Cause)
	}
	if expired(op, now) {
		pass.Done(gate.Unused, 0, now)
		return entry{}, p.expire(ctx, pol, op, m)
	}
	if m.shared() && (op.Contested.IsZero() || now.Sub(asked) > lookAge) {
		// This instance was frozen in the meantime, or waited at the gate.
		if over, err := p.over(ctx, op, m); err != nil || over {
			pass.Done(gate.Unused, 0, p.Now())
			return entry{}, err
		}
	}
	return entry{pass: pass, at: now, ok: true}, nil
}

// hold stores an operation in its lane, because its gate is shut, or ends it if it waits in
// vain.
func (p *Pipeline) hold(ctx context.Context, pol *policy.Policy, op *events.Operation, m Message, cause gate.Cause) error {
	until, ok := mayWait(pol, op, cause, p.Now())
	if !ok {
		return p.endAs(ctx, pol, op, m, inVain(cause))
	}
	move := func(ctx context.Context) error {
		return p.advance(ctx, op, m, func(ctx context.Context, op *events.Operation, m Message) error {
			return p.Store.Hold(ctx, op, m, until)
		})
	}
	if m.Later != nil {
		return m.Later(move)
	}
	return move(ctx)
}

// notePause records whether a pause holds an operation that came due. A maxElapsedTime that was
// over during a pause counts anew from its end.
func notePause(pol *policy.Policy, op *events.Operation, holds bool, now time.Time) {
	if op.Paused && !holds {
		if end := pol.MustEndBy(op); !end.IsZero() && !now.Before(end) {
			op.ElapsesFrom = now.UTC()
		}
	}
	op.Paused = holds
}

// mayWait returns until when an operation may wait for a cause to pass, zero if without end.
// ok is false if it waits in vain, because it may not be tried any more. A paused one never
// does, and what waits for a momentary cause takes its turn as others end.
func mayWait(pol *policy.Policy, op *events.Operation, cause gate.Cause, now time.Time) (until time.Time, ok bool) {
	until = op.Deadline
	end := pol.MustEndBy(op)
	switch {
	case end.IsZero() || cause == gate.CausePaused:
		return until, true
	case !now.Before(end):
		return until, momentary(cause)
	case until.IsZero() || end.Before(until):
		return end, true
	}
	return until, true
}

// inVain is the decision on an operation that was held until it may not be tried any more.
func inVain(c gate.Cause) policy.Decision {
	return policy.Decision{Reason: events.ReasonMaxElapsed, Held: c}
}

// expired reports whether the operation's deadline has passed.
func expired(op *events.Operation, now time.Time) bool {
	return !op.Deadline.IsZero() && !now.Before(op.Deadline)
}

// expire ends an operation whose deadline has passed.
func (p *Pipeline) expire(ctx context.Context, pol *policy.Policy, op *events.Operation, m Message) error {
	return p.endAs(ctx, pol, op, m, policy.Decision{Reason: events.ReasonDeadline})
}

// endAs ends an operation by a decision that no new failure led to.
func (p *Pipeline) endAs(ctx context.Context, pol *policy.Policy, op *events.Operation, m Message, d policy.Decision) error {
	last, _ := op.Last()
	return p.fail(ctx, pol, op, m, verdict{d, policy.Failure{Code: last.Code, Message: last.Error}})
}

// deliver makes one attempt and measures it. Submissions are not measured: they are
// failures only, because nobody reports the operations that succeeded.
func (p *Pipeline) deliver(ctx context.Context, pol *policy.Policy, op *events.Operation, m Message, a Attempt) (Reply, error) {
	if p.Health == nil {
		reply, err := p.Target.Deliver(ctx, op, m, a)
		reply.Own = p.Gates.ownDelay()
		return reply, err
	}
	p.Health.Begin(op.Service)
	result, response, own := health.Unknown, health.NoResponse, time.Duration(0)
	defer func() { p.Health.EndDelayed(op.Service, result, response, own, p.Now()) }()
	reply, err := p.Target.Deliver(ctx, op, m, a)
	own = p.Gates.ownDelay()
	reply.Own = own
	if err == nil && (!reply.Absent || pol.NoResponders == policy.FailWithoutResponders) {
		result, response = reply.Health(pol.AttemptTimeout)
	}
	return reply, err
}

// attempted calls Attempted.
func (p *Pipeline) attempted(ctx context.Context, op *events.Operation, reply Reply) {
	if p.Attempted != nil {
		p.Attempted(ctx, op, reply)
	}
}

// storeResult stores the result of an attempt before anything follows from it:
// another holder may have made the attempt too, or may make it before this one knows
// that a dead letter is stored. The first stored result counts, and the next holder
// concludes the attempt.
func (p *Pipeline) storeResult(ctx context.Context, op *events.Operation, m Message, a *attemptResult) error {
	failure := a.reply.Failure
	result := &events.WorkResult{
		At: a.at.Add(a.reply.Duration).UTC(), Failed: a.reply.Failed, Code: failure.Code, Error: failure.Message, Counted: true,
	}
	if failure.RetryAfter > 0 {
		result.RetryAfter = p.Now().Add(failure.RetryAfter).UTC()
	}
	op.Work = &events.Work{Token: op.Run(), Attempt: op.Attempt + 1, Target: a.subject, Started: a.at.UTC()}
	return p.advance(ctx, op, m, func(ctx context.Context, op *events.Operation, m Message) error {
		return p.placeResult(ctx, op, m, result)
	})
}

// resultOf classifies an attempt for the gate; err means that its result is not
// known.
func resultOf(reply Reply, err error) gate.Result {
	switch {
	case err != nil:
		return gate.Unused
	case !reply.Failed:
		return gate.Success
	}
	return reply.Failure.Result()
}
