package gate

import (
	"math"
	"time"
)

// Saturation is how far an instance uses up what is its own, apart from the host.
type Saturation struct {
	// SchedulerDelay is how long 99 of 100 goroutines that were ready to run waited at most,
	// lately.
	SchedulerDelay time.Duration
	// CPUPressure is the share of the time, 0 to 1, in which something of the instance's
	// cgroup waited for a CPU, lately; 0 without a cgroup of its own.
	CPUPressure float64
	// Memory is the share of the memory limit of its cgroup that is in use, 0 to 1; 0 without
	// a limit.
	Memory float64
}

// Overload is how far an instance is from keeping up with its work for want of CPU. It is a
// value; [Overload.Step] gives the next one. Others take over from an instance that is
// overloaded more than they are, so nothing is held for it.
type Overload struct {
	level float64
	at    time.Time
}

// overloadHalfLife is how long it takes until half of the level comes from newer measures. A
// collection of garbage must not show, and a starved instance must within seconds.
const overloadHalfLife = 2 * time.Second

// mostOverload bounds the level: a measure that is off the scale must not count for minutes.
const mostOverload = 8

// Level is 0 when the instance waits for nothing, and 1 at a limit.
func (o Overload) Level() float64 { return o.level }

// Step returns the overload after the measures at now.
func (o Overload) Step(s Saturation, l Limits, now time.Time) Overload {
	l = l.OrDefaults()
	level := min(max(share(float64(s.SchedulerDelay), float64(l.SchedulerDelay)), share(s.CPUPressure, l.CPUPressure)), mostOverload)
	old := math.Exp2(-max(now.Sub(o.at).Seconds(), 0) / overloadHalfLife.Seconds())
	return Overload{level: old*o.level + (1-old)*level, at: now}
}

// share returns value as a share of a limit that may be off.
func share(value, limit float64) float64 {
	if !(limit > 0 && value > 0) {
		return 0
	}
	return value / limit
}
