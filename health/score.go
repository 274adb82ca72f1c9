package health

import "time"

// Condition is the input of a health score. The zero value means that nothing is known.
type Condition struct {
	// Failures and Samples count the remembered attempts; at most [Samples].
	Failures, Samples int
	// Age is how long ago the last of them ended.
	Age time.Duration
	// Trend is the relative change of the recent response times against the earlier ones: 0.5 is
	// 50 % slower, 0 the same, below 0 faster.
	Trend float64

	// The figures reported by the service, already multiplied by their [ReportWeight]: ErrorRate
	// is 0 to 1; CPU, Memory and Pool are percentages; Queue counts requests; Load is the load
	// average per core.
	ErrorRate, CPU, Memory, Pool, Queue, Load float64
}

// The thresholds from which a figure lowers the score.
const (
	busyCPU    = 70.0  // percent; queueing delay rises steeply above it
	busyMemory = 80.0  // percent
	busyPool   = 70.0  // percent
	longQueue  = 100.0 // requests; a queue of this length counts half
	busyLoad   = 1.0   // per core; all cores busy
)

// Score returns the service's health from 0, dead, to 100, healthy. It is 100 reduced by every
// figure, each by a share of what the others left:
//
//	100 × (1−e) × (1−0.3r) × (1−0.3c) × (1−0.3m) × (1−0.3p) × (1−0.3q) × (1−0.2l)
//
// Each letter is from 0, nothing wrong or unknown, to 1:
//
//	e  failures / (samples + 2) × 2^(−age / 5 min), or the reported error rate
//	   if that is higher; the 2 stands for the two imaginary observations of
//	   Laplace's rule of succession, so that one failure does not condemn a service
//	r  trend × 2^(−age / 5 min); 1 for response times that doubled
//	c  CPU from 70 % to 100 %
//	m  memory from 80 % to 100 %
//	p  pool utilisation from 70 % to 100 %
//	q  queue / (queue + 100)
//	l  load average per core from 1 to 2
//
// So errors alone can lower a score to 0, and no resource alone lowers it below 70. A figure that
// gets worse never raises the score. NaN counts as unknown.
func (c *Condition) Score() float64 {
	fresh := freshness(c.Age)
	errors := max(share(float64(c.Failures), float64(c.Samples)+2)*fresh, share(c.ErrorRate, 1))
	score := 100 * (1 - errors)
	score *= 1 - 0.3*share(c.Trend, 1)*fresh
	score *= 1 - 0.3*share(c.CPU-busyCPU, 100-busyCPU)
	score *= 1 - 0.3*share(c.Memory-busyMemory, 100-busyMemory)
	score *= 1 - 0.3*share(c.Pool-busyPool, 100-busyPool)
	if c.Queue > 0 {
		score *= 1 - 0.3*(1-longQueue/(c.Queue+longQueue))
	}
	score *= 1 - 0.2*share(c.Load-busyLoad, 1)
	return score
}

// share returns part/whole clamped to 0 and 1; 0 for NaN.
func share(part, whole float64) float64 {
	if !(part > 0) || !(whole > 0) {
		return 0
	}
	if part >= whole {
		return 1
	}
	return part / whole
}
