package gate

import "time"

// Conclude records the result of an attempt whose pass was done with [Unused]
// because the result was not known yet. It counts for the retry budget, the governor and
// the trickle under backpressure; took is how long the attempt took.
func (g *Gate) Conclude(r Result, took time.Duration, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.recent.add(r, now)
	g.retryBudget.Done(r, now)
	g.governor.Done(g.governor.epoch, r, took, now)
}
