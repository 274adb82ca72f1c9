package scheduler

import "github.com/rebound-mq/rebound/scheduler/gate"

// Gate returns the gate's part of p.
func (p *Policy) Gate() gate.Settings {
	return gate.Settings{
		MaxConcurrent: p.MaxConcurrentRetries,
		PerMinute:     p.RetryBudgetPerMinute, PerHour: p.RetryBudgetPerHour,
		RespectBackpressure: p.RespectGlobalBackpressure,
	}
}
