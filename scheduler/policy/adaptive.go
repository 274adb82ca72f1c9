package policy

import (
	"math"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/health"
)

// Signals are the input of the adaptive factors. With the zero value every factor
// is 1.
type Signals struct {
	// HealthScore is the service's health, from 0 (dead) to 100 (healthy). It
	// counts only with HealthKnown.
	HealthScore float64
	// HealthKnown is whether HealthScore was measured or reported.
	HealthKnown bool
	// SuccessRate is the share of successes, 0 to 1, among the last Samples
	// operations, at most the policy's LearningWindow of them.
	SuccessRate float64
	// Samples is how many operations the success rate, the trend and the variance
	// are based on. At 0 all three are unknown.
	Samples int
	// Age is how long ago the last of the samples was taken.
	Age time.Duration
	// Variance is the squared coefficient of variation of the response times:
	// their variance over the square of their mean. 0 is perfectly steady.
	Variance float64
	// ResponseTrend is the relative change of the recent response time against
	// the longer run: 0.5 is half as slow again, 0 the same, below 0 faster.
	ResponseTrend float64
	// CPU and Memory are the service's utilisation in percent, 0 to 100; Memory that of this
	// instance's limit if it is larger.
	CPU, Memory float64
	// Pool is how much of its connection pool the service uses, in percent, 0 to
	// 100.
	Pool float64
	// Queue is how many requests wait at the service.
	Queue int
	// Load is the service's load average per core, at which 1 keeps every core busy, or how far
	// this instance lacks CPU, at which 1 is its limit.
	Load float64
}

// Factors are what an adaptive delay multiplies its strategy's delay by. Each is 1
// when its signal is good or unknown. Only Priority is ever below 1.
type Factors struct {
	Health       float64 `json:"health"`
	SuccessRate  float64 `json:"successRate"`
	ResponseTime float64 `json:"responseTime"`
	CPU          float64 `json:"cpu"`
	Memory       float64 `json:"memory"`
	Pool         float64 `json:"pool"`
	Queue        float64 `json:"queue"`
	Load         float64 `json:"load"`
	Priority     float64 `json:"priority"`
}

var noFactors = Factors{1, 1, 1, 1, 1, 1, 1, 1, 1}

// Product returns the product of all factors.
func (f Factors) Product() float64 {
	return f.Health * f.SuccessRate * f.ResponseTime * f.CPU * f.Memory * f.Pool * f.Queue * f.Load * f.Priority
}

// Map returns the factors by their names in events.
func (f Factors) Map() map[string]float64 {
	return map[string]float64{
		"health": f.Health, "successRate": f.SuccessRate, "responseTime": f.ResponseTime,
		"cpu": f.CPU, "memory": f.Memory, "pool": f.Pool, "queue": f.Queue, "load": f.Load,
		"priority": f.Priority,
	}
}

// Adapts reports whether p's delays are multiplied by the adaptive factors.
func (p *Policy) Adapts() bool { return p.EnableAdaptiveBackoff || p.BackoffStrategy == Adaptive }

// factors returns what p's delay is multiplied by. fresh is the freshness of the
// signals, passed in because it is costly and the confidence needs it too.
func (p *Policy) factors(s *Signals, fresh float64, priority events.Priority) Factors {
	f := noFactors
	f.Health = healthFactor(s.HealthScore, s.HealthKnown)
	f.Priority = priorityFactor(priority)
	if s.Samples > 0 {
		weight := evidenceWeight(s.Samples, p.LearningWindow, fresh)
		f.SuccessRate = successFactor(s.SuccessRate, p.SuccessRateThreshold, p.AdaptationFactor, weight)
		f.ResponseTime = responseFactor(s.ResponseTrend, weight)
	}
	if p.EnableResourceAwareRetry {
		f.CPU, f.Load = processorFactors(s.CPU, s.Load)
		f.Memory = utilisationFactor(s.Memory, busyMemory)
		f.Pool = utilisationFactor(s.Pool, busyPool)
		f.Queue = queueFactor(s.Queue)
	}
	return f
}

// The points beyond which the factors exceed 1.
const (
	wellScore  = 80  // the lowest health score of a healthy service
	busyCPU    = 70  // percent; beyond it queueing delay rises steeply
	busyMemory = 80  // percent
	busyPool   = 70  // percent
	longQueue  = 100 // requests; at this length the factor is half way to 2

	// halfLife is the age at which evidence counts for half.
	halfLife = 5 * time.Minute
)

// healthFactor is 1 for a health score of 80 and more, and rises in a straight
// line to 3 for a score of 0. It is 1 when the score is not known.
func healthFactor(score float64, known bool) float64 {
	if !known {
		return 1
	}
	return 1 + 2*share(wellScore-score, wellScore)
}

// successFactor is 1 while the success rate is at the threshold or above, and
// rises in a straight line to 1 + adaptation for a success rate of 0. weight, 0
// to 1, scales what it adds.
func successFactor(rate, threshold, adaptation, weight float64) float64 {
	return 1 + maxAdaptation*share(adaptation, maxAdaptation)*weight*share(threshold-rate, threshold)
}

// responseFactor is 1 while response times are steady or fall, and rises in a
// straight line to 2 for response times that are twice as long as they were, and
// more. weight, 0 to 1, scales what it adds.
func responseFactor(trend, weight float64) float64 { return 1 + weight*share(trend, 1) }

// utilisationFactor is 1 up to the busy mark, in percent, and rises in a
// straight line to 2 at 100 percent.
func utilisationFactor(percent, busy float64) float64 { return 1 + share(percent-busy, 100-busy) }

// queueFactor is 1 + q/(q + 100) for q waiting requests: 1 for none, 1.5 for
// 100, and never 2.
func queueFactor(q int) float64 {
	if q <= 0 {
		return 1
	}
	return 1 + float64(q)/(float64(q)+longQueue)
}

// processorFactors returns the factors of CPU utilisation and load. Both tell of busy
// processors, so only the larger counts, the CPU's if they are equal, and the other is 1.
func processorFactors(percent, load float64) (byCPU, byLoad float64) {
	byCPU, byLoad = utilisationFactor(percent, busyCPU), loadFactor(load)
	if byLoad > byCPU {
		return 1, byLoad
	}
	return byCPU, 1
}

// loadFactor is 1 up to a load average of 1 per core, and rises in a straight
// line to 2 at 2 per core and more.
func loadFactor(load float64) float64 { return 1 + share(load-1, 1) }

// priorityFactor is ½ for critical, ¾ for high, and 1 for normal and low: a low
// priority already waits in its lane behind the others.
func priorityFactor(p events.Priority) float64 {
	switch p {
	case events.Critical:
		return 0.5
	case events.High:
		return 0.75
	}
	return 1
}

// evidenceWeight is how much a success rate or a trend counts: the samples' share
// of the learning window, at most 1, times their freshness.
func evidenceWeight(samples, window int, fresh float64) float64 {
	return share(float64(samples), float64(max(window, 1))) * fresh
}

// freshness is 2^(−age / 5 min): 1 for new evidence, ½ after five minutes.
func freshness(age time.Duration) float64 {
	if age <= 0 {
		return 1
	}
	return math.Exp2(-float64(age) / float64(halfLife))
}

// confidence is how much evidence supports the factors, from 0 to 1, for n samples
// of age a whose squared coefficient of variation is v:
//
//	n/(n+2) × 2^(−a / 5 min) × 1/(1+v)
//
// fresh is the second of these, the freshness of the samples. The first term
// grows with evidence; its 2 are the two imaginary observations of Laplace's rule
// of succession, so that ten samples are worth 0.83. The second
// falls with the age of the evidence, the third with its variance: response
// times whose standard deviation equals their mean count for half.
func confidence(s *Signals, fresh float64) float64 {
	if s.Samples <= 0 {
		return 0
	}
	n, v := float64(s.Samples), s.Variance
	if !(v >= 0) {
		v = 0
	}
	return n / (n + 2) * fresh / (1 + v)
}

// share returns part/whole clamped to 0 and 1, and 0 where that is not a number.
func share(part, whole float64) float64 {
	if !(part > 0) || !(whole > 0) {
		return 0
	}
	if part >= whole {
		return 1
	}
	return part / whole
}

// Signals returns what is known of a service's health, as p decides by it. CPU,
// memory, pool and queue are the service's own reports. The load is the larger of
// the service's and of the host's on which Rebound runs, because waiting eases
// either. Resources that have factors of their own are left out of the health score, so
// that none counts twice.
//
// The service sees all its requests and Rebound only the redeliveries. The success
// rate that lengthens the delay more counts, so that a good report does not hide
// what Rebound sees, nor a few attempts what the service knows. A report counts as
// a whole window.
func (p *Policy) Signals(f health.Figures) Signals {
	s := Signals{
		HealthScore: f.Score, HealthKnown: f.Known,
		SuccessRate: f.SuccessRate, Samples: f.Window, Age: f.Age, Variance: f.Variation, ResponseTrend: f.Trend,
		CPU: f.CPU, Memory: f.Memory, Pool: f.Pool, Queue: int(math.Ceil(f.Queue)), Load: f.Load,
	}
	if p.EnableResourceAwareRetry {
		s.HealthScore = f.Vitality
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

// successSignal returns the factor of a success rate, weighted by its evidence.
func (p *Policy) successSignal(rate float64, samples int, age time.Duration) float64 {
	return successFactor(rate, p.SuccessRateThreshold, p.AdaptationFactor, evidenceWeight(samples, p.LearningWindow, freshness(age)))
}
