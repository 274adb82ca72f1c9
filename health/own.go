package health

import "time"

// OfTarget returns how much of a response time is the target's, if own of it may be the delay of
// the instance that measured it. That explains only what is beyond the usual response time, so
// that a busy instance does not take its targets for faster than they are; while nothing is usual,
// usual 0, it explains nothing.
func OfTarget(took, own, usual time.Duration) time.Duration {
	if usual == 0 {
		return took
	}
	return max(took-own, min(took, usual))
}

// Shortage is what an instance itself lacks. What its host lacks, whose processors and memory
// others may use up, is no matter.
type Shortage struct {
	// Processor is how far the instance is from keeping up for want of CPU: 0 when it waits for
	// nothing, 1 at a limit.
	Processor float64
	// Memory is how much of the memory limit of its cgroup is in use, in percent, 0 to 100.
	Memory float64
}

// SetShortage records what this instance lacks.
func (r *Registry) SetShortage(s Shortage) { r.shortage.Store(&s) }
