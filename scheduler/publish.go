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

// codeWorkerTimeout is the code of an attempt on which its worker did not report.
const codeWorkerTimeout = "worker_timeout"

// publish hands an attempt over to a worker. The operation is parked with a
// watchdog, which fires when no report came in time, before it is published: what
// happens to this instance in between ends in the watchdog firing. The watchdog
// is also what remains when it is not known whether the publish arrived.
//
// The place at the gate is given back as soon as the operation is published, for
// this instance may be gone when the attempt ends. The breaker's permit travels
// with the operation, and whoever concludes the attempt tells how it ended: a
// probe stays in flight until then, or until its lease is over.
func (p *Pipeline) publish(ctx context.Context, op *events.Operation, m Message, subject string, pass Pass, timeout time.Duration) error {
	now := p.Now()
	ticket := pass.permit.Ticket()
	op.Work = &events.Work{
		Token: p.Publisher.Token(), Attempt: op.Attempt + 1, Target: subject, Started: now.UTC(),
		Generation: ticket.Generation, Probe: ticket.Probe,
	}
	op.Due = now.Add(timeout).UTC()
	var watched Message
	err := p.advance(ctx, op, m, func(ctx context.Context, op *events.Operation, m Message) (err error) {
		watched, err = p.Store.Watch(ctx, op, m)
		return err
	})
	if err != nil || watched.Version == 0 {
		pass.Done(gate.Unused, 0, p.Now())
		return err
	}
	refused := p.Publisher.Publish(ctx, op, m, timeout)
	pass.Leave(p.Now())
	if refused == nil {
		return nil
	}
	return p.settle(ctx, op, watched, *refused)
}

// overdue ends an attempt whose watchdog fired. A report that comes at the same
// time may win.
func (p *Pipeline) overdue(ctx context.Context, op *events.Operation, m Message) error {
	silent := p.Now().Sub(op.Work.Started).Round(time.Millisecond)
	return p.settle(ctx, op, m, policy.Failure{
		Code: codeWorkerTimeout, Message: fmt.Sprintf("the worker has not reported in time, %s after it was given the attempt", silent),
	})
}

// settle stores that the attempt of a worker failed.
func (p *Pipeline) settle(ctx context.Context, op *events.Operation, m Message, f policy.Failure) error {
	now := p.Now().UTC()
	result := &events.WorkResult{At: now, Failed: true, Code: f.Code, Error: f.Message}
	if f.RetryAfter > 0 {
		result.RetryAfter = now.Add(f.RetryAfter)
	}
	return p.advance(ctx, op, m, func(ctx context.Context, op *events.Operation, m Message) error {
		return p.result(ctx, op, m, result)
	})
}

// result stores how the attempt of a worker ended and makes the operation due, so
// that the attempt is concluded like every other. The first result that is stored
// is the one that counts.
func (p *Pipeline) result(ctx context.Context, op *events.Operation, m Message, result *events.WorkResult) error {
	op.Work.Result, op.Due = result, p.Now().UTC()
	return p.Store.Place(ctx, op, m)
}

// worked returns the attempt whose result is stored, and tells who must know of it.
// told says that they may have been told before.
func (p *Pipeline) worked(ctx context.Context, by *policy.Policy, op *events.Operation, told bool) *made {
	w := op.Work
	op.Work = nil
	a := &made{subject: w.Target, at: w.Started, repeated: op.Attempt < op.Repeats, stored: true, reply: Reply{Failed: w.Result.Failed, Duration: max(w.Result.At.Sub(w.Started), 0)}}
	if a.reply.Failed {
		a.reply.Failure = policy.Failure{Code: w.Result.Code, Message: w.Result.Error, Duration: a.reply.Duration}
		a.reply.Failure.RetryAfter = max(w.Result.RetryAfter.Sub(p.Now()), 0)
	}
	if told || w.Result.Counted {
		return a
	}
	p.attempted(ctx, op, a.reply)
	now := p.Now()
	ticket := breaker.Ticket{Generation: w.Generation, Probe: w.Probe}
	p.Gates.Conclude(by, op.Key(), ticket, resultOf(a.reply, nil), a.reply.Duration, now)
	if p.Health != nil {
		p.Health.Begin(op.Service)
		result, response := healthOf(a.reply, by.AttemptTimeout)
		p.Health.End(op.Service, result, response, now)
	}
	return a
}
