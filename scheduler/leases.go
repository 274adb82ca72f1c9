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
	// leasePatience is how long an operation waits in memory for a lease while the
	// store is within reach. Many keys that come into use at once want a lease each;
	// to hold their operations would cost more, and a store may be slow for as long as
	// it gives each of them one.
	leasePatience = 2 * time.Minute
	// renewAfter is the age from which the lease of a key is renewed that may let more
	// through, and keepAfter that of one that only has operations in flight.
	renewAfter = gate.LeaseTime / 4
	keepAfter  = gate.LeaseTime / 2
	// returnAfter is for how long after its last use what is left of a lease is kept,
	// for the key may come back.
	returnAfter = 5 * time.Second
	// returnBefore is until when the ledger knows what the lease was given for.
	returnBefore = 10 * time.Second
)

// LeaseNeed is what is to be done about a key's lease.
type LeaseNeed uint8

const (
	// LeaseRests is nothing for now.
	LeaseRests LeaseNeed = iota
	// LeaseRenewal is to renew it, because the key is in use.
	LeaseRenewal
	// LeaseReturn is to hand in what is left of it, because the key is not used any more.
	LeaseReturn
	// LeaseOver is nothing more until the key wants a lease again.
	LeaseOver
)

// limited tells whether there is anything to share of the key's gate.
func limited(s gate.Settings) bool { return s.MaxConcurrent > 0 || s.PerMinute > 0 || s.PerHour > 0 }

// want sees to it that a key that is used has a lease, if it has limits. Until
// the first comes nothing goes, for as long as the store is within reach. When it is
// not, no claim is worth waiting for, not even one that is under way.
func (g *Gates) want(k *keyGate, now time.Time) {
	k.mu.Lock()
	k.used = now
	k.uses++
	lapsed := g.config.Lease != nil && limited(k.settings) && gate.Over(k.until, now)
	if lapsed {
		lease := gate.Lease{Instances: int(g.instances.Load())}
		if k.awaits = g.shared.Load(); k.awaits {
			lease.Until = now.Add(leaseWait)
		}
		k.until, k.claimed, k.more = now.Add(leaseWait), false, false
		k.gate.Share(lease)
	}
	k.mu.Unlock()
	if lapsed {
		g.config.Lease(k.key)
	}
}

// renew asks for a lease before the time when more may be had by it. When the budget
// of one ends early that was only as much as the key had use for, each brings several
// times as much as the one before, so that they may follow at once.
func (g *Gates) renew(k *keyGate, c gate.Cause, now time.Time) {
	if g.config.Lease == nil || c != gate.CauseBudgetShare && c != gate.CauseConcurrency {
		return
	}
	k.mu.Lock()
	spent := c == gate.CauseBudgetShare
	due := now.Sub(k.renewed) > gate.LeaseTime/10 || spent && k.more
	// What was handed in is no budget that was used up: the next lease is on its way.
	coming := k.awaits || spent && k.claimed
	k.mu.Unlock()
	if due && !coming {
		g.config.Lease(k.key)
	}
}

// LeaseNeed says what is to be done about the lease of a key that had one. A key
// that is used now and then does with one lease for each time.
func (g *Gates) LeaseNeed(key string, now time.Time) LeaseNeed {
	k := g.known(key)
	if k == nil {
		return LeaseOver
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	unused := now.Sub(k.used)
	switch {
	case !limited(k.settings):
		return LeaseOver
	case len(k.waiters) > 0, unused < gate.LeaseTime && (k.uses > 1 || k.held > 0):
		return renewalFrom(renewAfter, now.Sub(k.renewed))
	case k.gate.Report().InFlight > 0:
		return renewalFrom(keepAfter, now.Sub(k.renewed))
	case unused < returnAfter:
		return LeaseRests
	case unused < returnBefore && k.gate.Unreported():
		return LeaseReturn
	}
	return LeaseOver
}

func renewalFrom(least, age time.Duration) LeaseNeed {
	if age < least {
		return LeaseRests
	}
	return LeaseRenewal
}

// Claim hands in what this instance has of a key's limits, to be followed by
// [Gates.Share]. ok is false for a key that has nothing to share.
func (g *Gates) Claim(key string) (c gate.Claim, s gate.Settings, ok bool) {
	k := g.known(key)
	if k == nil {
		return c, s, false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !limited(k.settings) {
		return c, s, false
	}
	// While the store is out of reach claims only tell whether it is back.
	c, k.claimed = k.gate.HandIn(), g.shared.Load()
	c.Waiting = k.held + len(k.waiters)
	return c, k.settings, true
}

// Share puts a lease of a key in force.
func (g *Gates) Share(key string, l gate.Lease, now time.Time) {
	g.attached()
	k := g.known(key)
	if k == nil {
		return
	}
	k.mu.Lock()
	// A key of few instances may come to be used by all of them.
	l.Instances = max(l.Instances, int(g.instances.Load()))
	k.renewed, k.until, k.awaits, k.uses = now, l.Until, false, 0
	k.claimed, k.more = false, l.More
	k.gate.Share(l)
	k.mu.Unlock()
	k.wake()
	if l.Budget > 0 || l.Concurrent > 0 {
		g.opened(key)
	}
}

// Returned takes over that what was left of a key's lease was handed in for good.
// If the key came into use meanwhile it goes on waiting for another.
func (g *Gates) Returned(key string, l gate.Lease) {
	g.attached()
	k := g.known(key)
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	l.Until, k.claimed = time.Time{}, false
	k.gate.Share(l)
	if k.awaits {
		k.gate.Share(gate.Lease{Instances: int(g.instances.Load()), Until: k.until})
	}
}

// detachedAfter is how long the store of the leases must have been out of reach before
// limits are divided evenly. Until then nothing goes without a lease: most stores are
// back by then, and the leases of others are over, if they could not renew either.
const detachedAfter = 3 * gate.LeaseTime

// Detached says that a lease could not be had from the store. After a while of that it
// is out of reach, which detached reports: once its lease is over, each instance goes on
// with an even share of the limits.
func (g *Gates) Detached(now time.Time) (detached bool) {
	since := &now
	if !g.failing.CompareAndSwap(nil, since) {
		since = g.failing.Load()
	}
	if since == nil || now.Sub(*since) < detachedAfter {
		return false
	}
	g.shared.Store(false)
	return true
}

// attached notes that the store has answered.
func (g *Gates) attached() {
	g.failing.Store(nil)
	g.shared.Store(true)
}

// SetHeld says how many operations the lanes of a key hold. Instances are given
// their shares of its limits by what they have to do.
func (g *Gates) SetHeld(service, operation string, held int) {
	k := g.known(events.Key(service, operation))
	if k == nil {
		return
	}
	k.mu.Lock()
	k.held = held
	k.mu.Unlock()
}

// Unreported reports whether the ledger is to hear of anything of a key before this
// instance ends.
func (g *Gates) Unreported(key string) bool {
	k := g.known(key)
	return k != nil && k.gate.Unreported()
}
