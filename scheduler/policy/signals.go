package policy

import (
	"math"
	"time"

	"github.com/rebound-mq/rebound/health"
)

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
