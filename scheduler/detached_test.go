package scheduler

import (
	"testing"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

func TestGates_OneFailureOfTheStoreDividesNoLimits(t *testing.T) {
	g := NewGates(breaker.NewGroup(breaker.Config{}), GatesConfig{Lease: func(string) {}})
	now := time.Now()
	if g.Detached(now) || g.Detached(now.Add(detachedAfter-1)) || !g.shared.Load() {
		t.Error("limits are divided before the store has been out of reach for long")
	}
	g.Share("pay:charge", gate.Lease{Granted: true}, now)
	if g.Detached(now.Add(detachedAfter)) {
		t.Error("a failure counts from before the store answered")
	}
	if !g.Detached(now.Add(2*detachedAfter)) || g.shared.Load() {
		t.Error("limits are not divided though the store has been out of reach for long")
	}
	g.Share("pay:charge", gate.Lease{Granted: true}, now)
	if !g.shared.Load() {
		t.Error("limits are divided though the store is back")
	}
}
