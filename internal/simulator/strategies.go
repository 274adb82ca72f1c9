package simulator

import (
	"math"
	"time"

	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// Rebound is the name of the strategy that all others stand against.
const Rebound = "rebound"

// Strategies returns the names of all strategies, [Rebound] first.
func Strategies() []string {
	return []string{Rebound, "full-jitter", "decorrelated", "temporal", "aws-standard", "aws-adaptive", "finagle", "original"}
}

var strategies = map[string]func(*world) strategy{
	Rebound: func(w *world) strategy {
		w.rebound = newRebound(w.clock, w, policy.Builtin())
		return w.rebound
	},
	// Exponential delays from 1 s to 30 s with full jitter, without end.
	"full-jitter": func(w *world) strategy {
		return &client{world: w, delay: byPolicy(w, policyWith(policy.FullJitter), noSignals)}
	},
	"decorrelated": func(w *world) strategy {
		return &client{world: w, delay: byPolicy(w, policyWith(policy.DecorrelatedJitter), noSignals)}
	},
	// The default RetryPolicy of Temporal: 1 s, doubled up to 100 s, without end.
	"temporal": func(w *world) strategy {
		p := policyWith(policy.NoJitter)
		p.MaxDelay = 100 * time.Second
		return &client{world: w, delay: byPolicy(w, p, noSignals)}
	},
	"aws-standard": func(w *world) strategy {
		return &client{world: w, delay: awsDelay(w), budget: newAWSQuota()}
	},
	"aws-adaptive": func(w *world) strategy {
		return &client{world: w, delay: awsDelay(w), budget: newAWSAdaptive()}
	},
	"finagle": func(w *world) strategy {
		return &client{world: w, delay: byPolicy(w, policyWith(policy.FullJitter), noSignals), budget: &finagle{}}
	},
	// The adaptive delay of the original design, without breaker and budgets.
	"original": func(w *world) strategy {
		p := policyWith(policy.FullJitter)
		p.BackoffStrategy = policy.Adaptive
		o := &original{registry: health.NewRegistry()}
		o.client = &client{world: w, delay: byPolicy(w, p, func() policy.Signals {
			return p.Signals(o.registry.Figures(service, p.LearningWindow, w.now))
		})}
		o.budget = o
		return o
	},
}

// policyWith returns the common settings of the strategies: exponential delays from 1 s to 30 s,
// without end.
func policyWith(j policy.Jitter) *policy.Policy {
	p := policy.Builtin().Resolve(policy.Query{Service: service})
	p.MaxAttempts, p.JitterType = math.MaxInt, j
	p.BaseDelay, p.MaxDelay = time.Second, 30*time.Second
	return &p
}

// original learns from its retries but limits none: it is its own budget.
type original struct {
	*client
	registry *health.Registry
}

func (o *original) requested(failed, _, retry bool, _ int, now time.Time) {
	if !retry {
		return
	}
	result := health.Succeeded
	if failed {
		result = health.Failed
	}
	o.registry.Begin(service)
	o.registry.End(service, result, health.NoResponse, now)
}

func (*original) withdraw(policy.Failure, time.Time) (int, bool) { return 0, true }
func (*original) pace(time.Time) time.Duration                   { return 0 }
