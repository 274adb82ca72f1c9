package health

// Condition is the input of a health score. The zero value means that nothing is known.
type Condition struct {
	// Errors is the share of failures among the attempts, 0 to 1, in which the latest weigh most;
	// see [Registry].
	Errors float64
	// Trend is the relative change of the recent response times against the earlier ones: 0.5 is
	// 50 % slower, 0 the same, below 0 faster.
	Trend float64
	// ErrorRate is the error rate that the service reports, 0 to 1.
	ErrorRate float64

	// The other figures reported by the service, already multiplied by their [ReportWeight]: CPU,
	// Memory and Pool are percentages; Queue counts requests; Load is the load average per core.
	CPU, Memory, Pool, Queue, Load float64
}

// The thresholds from which a figure lowers the score.
const (
	busyCPU    = 70.0  // percent; queueing delay rises steeply above it
	busyMemory = 80.0  // percent
	busyPool   = 70.0  // percent
	longQueue  = 100.0 // requests; a queue of this length counts half
	busyLoad   = 1.0   // per core; all cores busy
)

// shutScore is the highest score of a service that is not served in whole, because a breaker is not
// closed or nobody listens on a target: half of what counts as healthy.
const shutScore = 40.0

// Score returns the service's health from 0, dead, to 100, healthy. It is 100 reduced by every
// figure, each by a share of what the others left:
//
//	100 × (1−e) × (1−0.3r) × (1−0.3c) × (1−0.3m) × (1−0.3p) × (1−0.3q)
//
// Each letter is from 0, nothing wrong or unknown, to 1:
//
//	e  the measured share of failures, or the reported error rate if that is higher
//	r  trend; 1 for response times that doubled
//	c  CPU from 70 % to 100 %, or two thirds of the load average per core from 1 to 2
//	   if that is more: both tell of the same processors
//	m  memory from 80 % to 100 %
//	p  pool utilisation from 70 % to 100 %
//	q  queue / (queue + 100)
//
// So errors alone can lower a score to 0, and no resource alone lowers it below 70. A figure that
// gets worse never raises the score, and the measured ones do not fade: what was bad when it was
// last tried is bad until an attempt succeeds. NaN counts as unknown.
func (c *Condition) Score() float64 { return c.burdened(c.vitality()) }

// burdened returns a score lowered by the figures of resources.
func (c *Condition) burdened(score float64) float64 {
	score *= 1 - max(0.3*share(c.CPU-busyCPU, 100-busyCPU), 0.2*share(c.Load-busyLoad, 1))
	score *= 1 - 0.3*share(c.Memory-busyMemory, 100-busyMemory)
	score *= 1 - 0.3*share(c.Pool-busyPool, 100-busyPool)
	if c.Queue > 0 {
		score *= 1 - 0.3*(1-longQueue/(c.Queue+longQueue))
	}
	return score
}

// vitality returns the score by errors and response times alone.
func (c *Condition) vitality() float64 {
	return 100 * (1 - max(share(c.Errors, 1), share(c.ErrorRate, 1))) * (1 - 0.3*share(c.Trend, 1))
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
