package scheduler

import (
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

const (
	// leaseWait is how long operations of a key may wait for a first lease before
	// its limits are divided evenly.
	leaseWait = 500 * time.Millisecond
	// keepLeases is for how long after its last operation a key keeps its lease.
	keepLeases = 3 * time.Second
)

// limited tells whether there is anything to share of the key's gate.
func limited(s gate.Settings) bool { return s.MaxConcurrent > 0 || s.PerMinute > 0 || s.PerHour > 0 }

// want sees to it that a key that is used has a lease, if it has limits. Until
// the first comes nothing goes, for as long as the store is within reach.
func (g *Gates) want(k *keyGate, now time.Time) {
	if g.config.Lease == nil {
		return
	}
	k.mu.Lock()
	k.used = now
	lapsed := limited(k.settings) && now.After(k.until)
	if lapsed {
		lease := gate.Lease{Instances: int(g.instances.Load())}
		if g.shared.Load() {
			lease.Until = now.Add(leaseWait)
		}
		k.until = now.Add(leaseWait)
		k.gate.Share(lease)
	}
	k.mu.Unlock()
	if lapsed {
		g.config.Lease(k.key)
	}
}

// renew asks for a lease before the time when more may be had by it.
func (g *Gates) renew(k *keyGate, c gate.Cause, now time.Time) {
	if g.config.Lease == nil || c != gate.CauseBudgetShare && c != gate.CauseConcurrency {
		return
	}
	k.mu.Lock()
	old := now.Sub(k.renewed) > gate.LeaseTime/10
	k.mu.Unlock()
	if old {
		g.config.Lease(k.key)
	}
}

// Leased returns the keys whose leases are to be renewed: they have limits and
// were in use a moment ago, or have operations in flight or in lanes.
func (g *Gates) Leased(now time.Time) []string {
	var keys []string
	for _, k := range g.all() {
		k.mu.Lock()
		if limited(k.settings) && (now.Sub(k.used) < keepLeases || k.held > 0 || k.gate.Report().InFlight > 0) {
			keys = append(keys, k.key)
		}
		k.mu.Unlock()
	}
	return keys
}

// Claim hands in what this instance has of a key's limits, to be followed by
// [Gates.Share]. ok is false for a key that has nothing to share.
func (g *Gates) Claim(key string) (c gate.Claim, s gate.Settings, ok bool) {
	g.mu.RLock()
	k := g.keys[key]
	g.mu.RUnlock()
	if k == nil {
		return c, s, false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !limited(k.settings) {
		return c, s, false
	}
	c = k.gate.HandIn()
	c.Held = k.held + len(k.waiters)
	return c, k.settings, true
}

// Share puts a lease of a key in force.
func (g *Gates) Share(key string, l gate.Lease, now time.Time) {
	g.shared.Store(true)
	g.mu.RLock()
	k := g.keys[key]
	g.mu.RUnlock()
	if k == nil {
		return
	}
	k.mu.Lock()
	// A key of few instances may come to be used by all of them.
	l.Instances = max(l.Instances, int(g.instances.Load()))
	k.renewed, k.until = now, l.Until
	k.gate.Share(l)
	k.mu.Unlock()
	k.wake()
	if l.Budget > 0 || l.Concurrent > 0 {
		g.room(key)
	}
}

// Parted says that the store of the leases is out of reach: once its lease is
// over, each instance goes on with an even share of the limits.
func (g *Gates) Parted() { g.shared.Store(false) }

// SetHeld says how many operations the lanes of a key hold. Instances are given
// their shares of its limits by what they have to do.
func (g *Gates) SetHeld(service, operation string, held int) {
	g.mu.RLock()
	k := g.keys[events.Key(service, operation)]
	g.mu.RUnlock()
	if k == nil {
		return
	}
	k.mu.Lock()
	k.held = held
	k.mu.Unlock()
}
