package scheduler

import (
	"context"
	"math"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/health"
)

// signals returns what the policy's factors read of a service. A policy without
// factors needs none.
func (p *Pipeline) signals(policy *Policy, service string, now time.Time) Signals {
	if p.Health == nil || !policy.adapts() {
		return Signals{}
	}
	return policy.Signals(p.Health.Figures(service, policy.LearningWindow, now))
}

// Signals returns what is known of a service's health as a decision by p takes
// it. CPU, memory, pool and queue are what the service reports itself; the load
// is the larger of its own and of the host on which Rebound runs, for waiting
// eases either.
//
// The service sees all its requests and Rebound only the redeliveries. Whichever
// of both success rates lengthens the delay more is taken, so that neither a
// good report hides what Rebound sees nor a few attempts what the service knows.
// A report counts as a whole window.
func (p *Policy) Signals(f health.Figures) Signals {
	s := Signals{
		HealthScore: f.Score, HealthKnown: f.Known,
		SuccessRate: f.SuccessRate, Samples: f.Window, Age: f.Age, Variance: f.Variation, ResponseTrend: f.Trend,
		CPU: f.CPU, Memory: f.Memory, Pool: f.Pool, Queue: int(math.Ceil(f.Queue)), Load: f.Load,
	}
	if !f.Reported {
		return s
	}
	rate, samples, age := 1-f.ErrorRate, max(p.LearningWindow, 1), f.ErrorRateAge
	if f.Window > 0 {
		age = min(age, f.Age)
	}
	if f.Window == 0 || p.successSignal(rate, samples, age) > p.successSignal(s.SuccessRate, s.Samples, s.Age) {
		s.SuccessRate, s.Samples, s.Age = rate, samples, age
	}
	return s
}

// successSignal returns the factor that a success rate makes by the evidence
// behind it.
func (p *Policy) successSignal(rate float64, samples int, age time.Duration) float64 {
	return successFactor(rate, p.SuccessRateThreshold, p.AdaptationFactor, evidenceWeight(samples, p.LearningWindow, freshness(age)))
}

// deliver makes one attempt and has it measured. Submissions are not measured:
// nobody hears of the operations that succeeded meanwhile.
func (p *Pipeline) deliver(ctx context.Context, policy *Policy, op *events.Operation, m Message, subject string, repeated bool, timeout time.Duration) (Reply, error) {
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
