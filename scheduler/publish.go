package scheduler

import (
	"context"
	"fmt"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/gate"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// codeWorkerTimeout is the code of an attempt whose worker did not report in time.
const codeWorkerTimeout = "worker_timeout"

// publish hands an attempt over to a worker. Before it is published, the operation is
// parked with a watchdog, which fires if no report arrives in time. So the watchdog
// fires if this instance dies in between, or if the publish may not have arrived.
//
// The gate is released as soon as the operation is published, because this instance
// may be gone when the attempt ends. The breaker's permit travels with the operation,
// and whoever concludes the attempt returns it: a probe stays in flight until then,
// or until its lease is over.
//
// An operation whose target no stream captures is held instead if the policy says so.
func (p *Pipeline) publish(ctx context.Context, pol *policy.Policy, op *events.Operation, m Message, a Attempt, pass Pass) error {
	now := p.Now()
	ticket := pass.permit.Ticket()
	op.Work = &events.Work{
		Token: p.Publisher.Token(), Attempt: a.Number, Target: a.Subject, Started: now.UTC(),
		Generation: ticket.Generation, Probe: ticket.Probe,
	}
	op.Due = now.Add(a.Timeout).UTC()
	var watched Message
	err := p.advance(ctx, op, m, func(ctx context.Context, op *events.Operation, m Message) (err error) {
		watched, err = p.Store.Watch(ctx, op, m)
		return err
	})
	if err != nil || watched.Version == 0 {
		pass.Done(gate.Unused, 0, p.Now())
		return err
	}
	refused := p.Publisher.Publish(ctx, op, m, a.Timeout)
	switch {
	case refused == nil:
		pass.Leave(p.Now())
		return nil
	case refused.Code == CodeNoStream && pol.NoResponders == policy.AwaitResponders:
		pass.Missed(p.Now())
		op.Work = nil
		return p.hold(ctx, pol, op, watched, gate.CauseAbsent)
	}
	pass.Leave(p.Now())
	return p.failAttempt(ctx, op, watched, *refused)
}

// watchdogFired fails an attempt whose worker did not report in time. A report at the
// same time may win.
func (p *Pipeline) watchdogFired(ctx context.Context, op *events.Operation, m Message) error {
	silent := p.Now().Sub(op.Work.Started).Round(time.Millisecond)
	return p.failAttempt(ctx, op, m, policy.Failure{
		Code: codeWorkerTimeout, Message: fmt.Sprintf("the worker has not reported in time, %s after it was given the attempt", silent),
	})
}

// failAttempt stores that the attempt of a worker failed.
func (p *Pipeline) failAttempt(ctx context.Context, op *events.Operation, m Message, f policy.Failure) error {
	now := p.Now().UTC()
	result := &events.WorkResult{At: now, Failed: true, Code: f.Code, Error: f.Message}
	if f.RetryAfter > 0 {
		result.RetryAfter = now.Add(f.RetryAfter)
	}
	return p.advance(ctx, op, m, func(ctx context.Context, op *events.Operation, m Message) error {
		return p.placeResult(ctx, op, m, result)
	})
}

// placeResult stores the result of a worker's attempt and makes the operation due, so
// that the attempt is concluded like any other. The first stored result counts.
func (p *Pipeline) placeResult(ctx context.Context, op *events.Operation, m Message, result *events.WorkResult) error {
	op.Work.Result, op.Due = result, p.Now().UTC()
	return p.Store.Place(ctx, op, m)
}

// workerResult returns the stored result of a worker's attempt and counts it for the
// breaker, the gate and the target's health, unless another holder of the message may
// have counted it before.
func (p *Pipeline) workerResult(ctx context.Context, pol *policy.Policy, op *events.Operation, m Message) *attemptResult {
	counted := m.shared() || op.Work.Result.Counted
	w := op.Work
	op.Work = nil
	a := &attemptResult{
		subject: w.Target, at: w.Started, repeated: op.Attempt < op.Repeats, stored: true,
		reply: Reply{Failed: w.Result.Failed, Duration: max(w.Result.At.Sub(w.Started), 0)},
	}
	if a.reply.Failed {
		a.reply.Failure = policy.Failure{Code: w.Result.Code, Message: w.Result.Error, Duration: a.reply.Duration}
		a.reply.Failure.RetryAfter = max(w.Result.RetryAfter.Sub(p.Now()), 0)
	}
	if counted {
		return a
	}
	p.attempted(ctx, op, a.reply)
	now := p.Now()
	p.Gates.Conclude(pol, op.Key(), Conclusion{
		Ticket: breaker.Ticket{Generation: w.Generation, Probe: w.Probe}, Result: resultOf(a.reply, nil), Took: a.reply.Duration, Error: a.reply.Text(),
	}, now)
	if p.Health != nil {
		p.Health.Begin(op.Service)
		result, response := a.reply.Health(pol.AttemptTimeout)
		p.Health.End(op.Service, result, response, now)
	}
	return a
}
