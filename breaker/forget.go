package breaker

import (
	"time"

	"github.com/rebound-mq/rebound/internal/shrink"
)

// Forget drops the breakers that were not used since a time, and returns how many.
// Those stay that are not closed, that an operator said anything about, or that have
// news for the store. The breaker of a key that comes back is a new one; what other
// instances did meanwhile it hears from the store, like any other.
func (g *Group) Forget(since time.Time) int {
	var keys []string
	g.mu.Lock()
	for key, b := range g.breakers {
		if b.forgettable(since) {
			delete(g.breakers, key)
			keys = append(keys, key)
		}
	}
	g.breakers = shrink.Map(g.breakers, len(keys))
	g.mu.Unlock()
	if g.store != nil {
		g.store.Forget(keys)
	}
	return len(keys)
}

// forgettable reports whether a new breaker would do as well.
func (b *Breaker) forgettable(since time.Time) bool {
	if b.State() != Closed || b.used.Load() >= since.UnixNano() {
		return false
	}
	select {
	case b.flow <- struct{}{}:
		defer func() { <-b.flow }()
	default:
		return false // an event is on its way
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.circuit.ordinary() && (b.group.store == nil || b.joined && !b.news())
}

// news reports whether the breaker has something for the store.
func (b *Breaker) news() bool {
	return b.queued != idle || !b.tally.empty() || !b.owed.empty() || b.diverged || len(b.returns) > 0 || len(b.returned) > 0
}
