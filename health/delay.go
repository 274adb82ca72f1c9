package health

import (
	"math"
	"sync"
	"time"
)

const (
	// delayTime is the time constant of a [Delay], and delayHalfLife the time in
	// which one loses half its weight when nothing is measured any more.
	delayTime     = 2 * time.Second
	delayHalfLife = 2 * time.Second
	// leastWeight is the least weight of a measurement, so that many at one instant
	// count no less than a few.
	leastWeight = 0.01
)

// Delay is how long something takes lately: an exponential moving average over
// time, in which a measurement replaces the share 1 − e^(−Δt / 2 s) of what was
// before, at least a hundredth, Δt being the time since the last one. Without
// measurements it fades. The zero value is no delay. It is safe for concurrent use.
type Delay struct {
	mu   sync.Mutex // guards what follows
	mean float64    // in nanoseconds
	at   time.Time  // of the last measurement
}

// Add takes in a measurement at now.
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

// Get returns the delay at now: the average times 2^(−age / 2 s), age being how
// long ago the last measurement was.
func (d *Delay) Get(now time.Time) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Duration(d.mean * math.Exp2(-float64(max(now.Sub(d.at), 0))/float64(delayHalfLife)))
}
