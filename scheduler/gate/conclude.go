package gate

import "time"

// Conclude tells how an attempt ended whose pass was done with [Unused], because
// that was not known then. It counts for the budget that successes refill and for
// the governor; took is how long the attempt took.
func (g *Gate) Conclude(r Result, took time.Duration, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.retryBudget.Done(r, now)
	g.governor.Done(g.governor.epoch, r, took, now)
}
