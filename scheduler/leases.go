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
	// store is within reach. Many keys that come into use at once need a lease each.
	// The store may be slow to give them all, but holding their operations would cost
	// more.
	leasePatience = 2 * time.Minute
	// renewAfter is the age at which a lease is renewed while more operations may
	// follow, and keepAfter the age while some are only in flight.
	renewAfter = gate.LeaseTime / 4
	keepAfter  = gate.LeaseTime / 2
	// returnAfter is how long after its last use a lease is kept, in case the key is
	// used again.
	returnAfter = 5 * time.Second
	// returnBefore is how long the ledger still knows what the lease was given for.
	returnBefore = 10 * time.Second
)

// LeaseNeed is what to do about a key's lease.
type LeaseNeed uint8

const (
	// LeaseRests means nothing for now.
	LeaseRests LeaseNeed = iota
	// LeaseRenewal means to renew it, because the key is in use.
	LeaseRenewal
	// LeaseReturn means to hand in the rest, because the key is not used any more.
	LeaseReturn
	// LeaseOver means nothing more until the key needs a lease again.
	LeaseOver
)

// limited reports whether a key has limits to share.
func limited(s gate.Settings) bool { return s.MaxConcurrent > 0 || s.PerMinute > 0 || s.PerHour > 0 }

// want requests a lease for a key in use, if it has limits and no lease. While the
// store is within reach nothing goes before the first arrives. While it is not, no
// claim is worth waiting for, not even one that is under way.
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

// renew requests a lease ahead of time if it may bring more. A budget that was sized
// by the key's use and ends early may be renewed at once, because each lease brings
// several times as much as the one before.
func (g *Gates) renew(k *keyGate, c gate.Cause, now time.Time) {
	if g.config.Lease == nil || c != gate.CauseBudgetShare && c != gate.CauseConcurrency {
		return
	}
	k.mu.Lock()
	spent := c == gate.CauseBudgetShare
	due := now.Sub(k.renewed) > gate.LeaseTime/10 || spent && k.more
	// A budget that was handed in is not used up: the next lease is on its way.
	coming := k.awaits || spent && k.claimed
	k.mu.Unlock()
	if due && !coming {
		g.config.Lease(k.key)
	}
}

// LeaseNeed says what to do about the lease of a key that had one. A key that is used
// only now and then gets one lease for each use.
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
	case len(k.waiters) > 0, unused < gate.LeaseTime && (k.uses > 1 || k.held.Total() > 0):
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

// Claim hands in this instance's lease of a key's limits; call [Gates.Share] with the
// next. ok is false for a key without limits.
func (g *Gates) Claim(key string, now time.Time) (c gate.Claim, s gate.Settings, ok bool) {
	k := g.known(key)
	if k == nil {
		return c, s, false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !limited(k.settings) {
		return c, s, false
	}
	// While the store is out of reach claims only probe whether it is back.
	c, k.claimed = k.gate.HandIn(now), g.shared.Load()
	c.Waiting = k.demand(now)
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
	// A key that few instances use may come to be used by all.
	l.Instances = max(l.Instances, int(g.instances.Load()))
	k.renewed, k.until, k.awaits, k.uses = now, l.Until, false, 0
	k.claimed, k.more = false, l.More
	k.gate.Share(l)
	// The lanes need not ask if all that they hold must leave what is left to others.
	held := k.held.Waiting()
	vain := held != 0 && held&^k.gate.Reserved(now) == 0
	k.mu.Unlock()
	k.wake()
	if (l.Budget > 0 || l.Concurrent > 0) && !vain {
		g.opened(key)
	}
}

// Returned records that the rest of a key's lease was handed in for good. If the key
// came into use meanwhile, it goes on waiting for another.
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

// detachedAfter is how long the store of the leases must be out of reach before limits
// are divided evenly. Until then nothing goes without a lease: most stores are back by
// then, and the leases of other instances that cannot renew are over.
const detachedAfter = 3 * gate.LeaseTime

// Detached records that the store gave no lease. It reports whether that has lasted so
// long that the store counts as out of reach: each instance then goes on with an even
// share of the limits once its lease is over.
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

// Alone records that the store of the leases is out of reach, which is known without asking
// it for long.
func (g *Gates) Alone(now time.Time) {
	long := now.Add(-detachedAfter)
	g.failing.Store(&long)
	g.shared.Store(false)
}

// attached records that the store has answered.
func (g *Gates) attached() {
	g.failing.Store(nil)
	g.shared.Store(true)
}

// SetHeld sets how many operations of each priority the lanes of a key hold. They are part
// of the demand by which instances share its limits.
func (g *Gates) SetHeld(service, operation string, n gate.Lengths, now time.Time) {
	k := g.known(events.Key(service, operation))
	if k == nil {
		return
	}
	k.mu.Lock()
	k.held = n
	k.mu.Unlock()
	k.gate.Note(n.Waiting(), now)
}

// Lent reports whether other instances may yet give back some of the budgets of a key.
func (g *Gates) Lent(key string) bool {
	k := g.known(key)
	return k != nil && k.gate.Lent()
}

// Unreported reports whether this instance must report to the ledger of a key before
// it ends.
func (g *Gates) Unreported(key string) bool {
	k := g.known(key)
	return k != nil && k.gate.Unreported()
}
