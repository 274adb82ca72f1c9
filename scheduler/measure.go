package scheduler

import (
	"context"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// signals returns what the policy's factors read of a service. A policy without
// factors needs none.
func (p *Pipeline) signals(of *policy.Policy, service string, now time.Time) policy.Signals {
	if p.Health == nil || !of.Adapts() {
		return policy.Signals{}
	}
	return of.Signals(p.Health.Figures(service, of.LearningWindow, now))
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
