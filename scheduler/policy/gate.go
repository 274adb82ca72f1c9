package policy

import (
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

// Gate returns the gate's part of p.
func (p *Policy) Gate() gate.Settings {
	return gate.Settings{
		MaxConcurrent: p.MaxConcurrentRetries,
		PerMinute:     p.RetryBudgetPerMinute, PerHour: p.RetryBudgetPerHour,
		RespectBackpressure: p.RespectGlobalBackpressure,
	}
}

// Result returns what the failure tells a gate: [gate.Failure] when it is
// [Failure.Unhealthy], [gate.Throttled] for a rate limit, or [gate.Ignored].
func (f Failure) Result() gate.Result {
	var buf [maxCode]byte
	switch k := builtinKind(f, appendCode(buf[:0], f.Code)); {
	case k.unhealthy:
		return gate.Failure
	case k == kindRateLimited:
		return gate.Throttled
	}
	return gate.Ignored
}

// ProbeSlack is what an attempt may take beyond its timeout: the wait for a late
// reply and for the conclusion to be told.
const ProbeSlack = 2 * time.Second

// BreakerSettings are the policy's part for the breaker of its key.
func (p *Policy) BreakerSettings() breaker.Settings {
	return breaker.Settings{
		Threshold: p.CircuitBreakerThreshold, Timeout: p.CircuitBreakerTimeout,
		FailureRate: p.CircuitBreakerFailureRate, Window: p.CircuitBreakerWindow,
		MinimumCalls:        p.CircuitBreakerMinimumCalls,
		HalfOpenMaxRequests: p.HalfOpenMaxRequests, HalfOpenSuccesses: p.HalfOpenSuccesses,
		ProbeLease: p.AttemptTimeout + ProbeSlack,
	}
}
