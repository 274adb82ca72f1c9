package health

import (
	"math"
	"sync"
	"time"
)

const (
	// delayTime is the time constant of a [Delay]. delayHalfLife is the time in which it halves
	// without measurements.
	delayTime     = 2 * time.Second
	delayHalfLife = 2 * time.Second
	// leastWeight is the minimum weight of a measurement, so that many at one instant still
	// count.
	leastWeight = 0.01
)

// Delay is a recent duration of something: an exponential moving average over time, in which a
// measurement gets the weight 1 − e^(−Δt / 2 s), at least a hundredth, where Δt is the time since
// the previous one. Without measurements it fades. The zero value is no delay. It is safe for
// concurrent use.
type Delay struct {
	mu   sync.Mutex // guards the fields below
	mean float64    // in nanoseconds
	at   time.Time  // of the last measurement
}

// Add adds a measurement at now.
func (d *Delay) Add(took time.Duration, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	weight := 1.0
	if !d.at.IsZero() {
		weight = max(1-math.Exp(-float64(now.Sub(d.at))/float64(delayTime)), leastWeight)
	}
	d.mean += weight * (float64(max(took, 0)) - d.mean)
	if now.After(d.at) {
		d.at = now
	}
}

// Get returns the delay at now: the average times 2^(−age / 2 s), where age is the time since the
// last measurement.
func (d *Delay) Get(now time.Time) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Duration(d.mean * math.Exp2(-float64(max(now.Sub(d.at), 0))/float64(delayHalfLife)))
}
