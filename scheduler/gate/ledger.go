package gate

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Ledger is the part of one key's gate that instances share: the budgets, and how
// many operations each instance may have in flight. A store keeps it as JSON and
// changes it by [Ledger.Renew] and compare-and-set. All times are by the store's
// clock.
//
// The shares that have not run out never add up to more than the limit, and no
// window ever holds more than the budget, however the instances come and go. An
// instance that dies loses its share after [LeaseTime].
//
// A store may lose ledgers. The instances remember the ledger as they last saw it
// and hand it in with their claims; see [Ledger.recall].
type Ledger struct {
	Minute Window  `json:"minute"`
	Hour   Window  `json:"hour"`
	Shares []Share `json:"shares,omitempty"`
	// Uses are those of all instances.
	Uses Uses `json:"uses,omitzero"`
	// Born is when the ledger began, which tells it from an earlier one that was lost,
	// and Version counts its renewals.
	Born    time.Time `json:"born,omitzero"`
	Version uint64    `json:"version,omitempty"`
	// Origin and Base are the Born and Version of the lost ledger that this one was
	// rebuilt from, if any. Until Quiet it gives nothing out.
	Origin time.Time `json:"origin,omitzero"`
	Base   uint64    `json:"base,omitempty"`
	Quiet  time.Time `json:"quiet,omitzero"`
	// Begun is the ledger that this one replaced when it was rebuilt, until it is
	// merged; after that, Joined is its Born.
	Begun  *Ledger   `json:"begun,omitempty"`
	Joined time.Time `json:"joined,omitzero"`
}

// Share is what one instance has of the limits.
type Share struct {
	Instance string `json:"instance"`
	// Concurrent is how many operations it may have in flight, and Demand how
	// many it has in flight or waiting.
	Concurrent int `json:"concurrent"`
	Demand     int `json:"demand"`
	// Budget is how many operations it was allowed at Given.
	Budget int       `json:"budget"`
	Given  time.Time `json:"given"`
	// Heard is the Given of the last lease that had reached the instance by then, and
	// Extra how many operations it had let through without a lease since that.
	Heard time.Time `json:"heard,omitzero"`
	Extra int       `json:"extra,omitempty"`
	// Expires is when the instance counts as dead unless it renews.
	Expires time.Time `json:"expires"`
}

// Claim is an instance's request for a lease.
type Claim struct {
	Instance string
	// InFlight is how many operations it has in flight, and Waiting how many wait
	// to go, in memory or in the lanes.
	InFlight, Waiting int
	// Heard is the Given of the last lease that reached the instance; zero is none. A
	// later one whose answer got lost was never used.
	Heard time.Time
	// Unused is how much of that lease's budget it did not use and may not use any
	// more.
	Unused int
	// Extra is how many it let through without a lease since that one.
	Extra int
	// Uses are those that the instance knows of, by its clock at Now.
	Uses Uses
	Now  time.Time
	// Seen is the ledger after that lease, nil when there was none. It is not changed.
	Seen *Ledger
	// Leaving hands everything in and asks for nothing: the instance needs no lease
	// until it claims again.
	Leaving bool
}

// Lease is what an instance may do until it renews. The zero value is for an
// instance that is alone and has the limits to itself.
type Lease struct {
	// Concurrent is how many operations it may have in flight.
	Concurrent int
	// Budget is how many operations it may let through, and More whether more was left
	// for an instance that uses more; see [ample].
	Budget int
	More   bool
	// Minute and Hour are what of each budget was left when the lease was given, with its
	// own part, 0 without such a limit. Uses are those of all instances, by the store's
	// clock.
	Minute, Hour int
	Uses         Uses
	// Given is when the ledger gave it, by the store's clock. It identifies the lease
	// among the instance's leases.
	Given time.Time
	// Until is when the lease ends, by the instance's clock: the time before the
	// store was asked, plus [LeaseTime].
	Until time.Time
	// Instances is the number of instances that divide the limits evenly when the
	// lease has ended because the store is out of reach.
	Instances int
	// Granted is whether the ledger gave it. One that it did not give is in force
	// until the ledger's next, with the Left and LeftUntil of the last.
	Granted bool
	// Left is how much of the budgets nobody had when the lease was given. Until
	// LeftUntil, by the instance's clock, instances without a lease divide no more.
	Left      int
	LeftUntil time.Time
	// Seen is the ledger after it, to be handed in with the next claim.
	Seen *Ledger
}

const (
	// LeaseTime is how long a lease is valid. Renew it after a third of that, and at
	// once when the gate is shut by [CauseBudgetShare] or [CauseConcurrency] and
	// either the last lease is older than a tenth of it or its More is set.
	LeaseTime = time.Second
	// graceTime is how long an instance that does not renew still counts when limits
	// are divided.
	graceTime = 10 * LeaseTime
)

// NewLedger returns a ledger that has given nothing out.
func NewLedger() Ledger {
	return Ledger{Minute: NewWindow(time.Minute), Hour: NewWindow(time.Hour)}
}

// Check returns an error for a stored ledger that Renew cannot use, or with which it
// would exceed the limits.
func (l *Ledger) Check() error {
	if empty := NewLedger(); l.Minute.width != empty.Minute.width || l.Hour.width != empty.Hour.width {
		return errors.New("its windows are not those of a minute and an hour")
	}
	for _, h := range l.Shares {
		if h.Instance == "" {
			return errors.New("a share is of no instance")
		}
		for _, n := range []int{h.Concurrent, h.Demand, h.Budget, h.Extra} {
			if n < 0 || n > math.MaxInt32 {
				return fmt.Errorf("the share of instance %.80q has the number %d", h.Instance, n)
			}
		}
	}
	return nil
}

// Renew gives an instance its next lease and returns the ledger after it. It is
// pure and does not change l; s are the policy's limits.
//
// The limit of operations in flight is divided so that the least demanding are
// served first. What nobody demands is divided evenly, so that an instance with
// nothing to do can begin without asking. An instance gets no more than the other
// shares leave; those shrink to their fair part when they renew.
func (l Ledger) Renew(c Claim, s Settings, now time.Time) (Ledger, Lease) {
	l.Shares = slices.Clone(l.Shares)
	l.Shares = slices.DeleteFunc(l.Shares, func(h Share) bool { return !h.Expires.Add(graceTime).After(now) })
	known := l.recall(c, now)
	l.Version++
	if !c.Now.IsZero() {
		l.Uses.merge(c.Uses, now.Sub(c.Now))
	}
	i := l.share(c.Instance)
	own := &l.Shares[i]
	if now.Before(l.Quiet) {
		// What it has in flight goes on. Everything else it must claim again.
		own.Concurrent, own.Demand, own.Expires = max(c.InFlight, 0), max(c.InFlight, 0)+max(c.Waiting, 0), now.Add(LeaseTime)
		return l, Lease{Concurrent: own.Concurrent, Instances: len(l.Shares)}
	}
	if !known {
		*own, c.Unused = Share{Instance: c.Instance, Concurrent: own.Concurrent}, 0
	}
	used := l.settle(own, c, now)
	if c.Leaving {
		l.Shares = slices.Delete(l.Shares, i, i+1)
		return l, Lease{Given: now, Instances: len(l.Shares), Granted: true, Left: l.left(s, now), Seen: &l}
	}
	own.Demand = max(c.InFlight, 0) + max(c.Waiting, 0)
	begins := own.Given.IsZero() || !own.Expires.Add(LeaseTime).After(now)
	own.Expires = now.Add(LeaseTime)
	if s.MaxConcurrent > 0 {
		own.Concurrent = l.concurrent(i, c.InFlight, s.MaxConcurrent, now)
	} else {
		own.Concurrent = 0
	}
	part := l.budget(own, s, now)
	own.Budget, own.Given = min(part, ample(used, own.Demand)), now
	minute, hour := l.leftOfEach(s, now)
	if begins {
		own.Budget = min(own.Budget, max(beginning(&c, s, minute, hour), 0))
	}
	if s.PerHour > 0 && l.Uses.several(time.Hour, now) || l.Uses.several(time.Minute, now) {
		own.Budget = min(own.Budget, l.portion(l.left(s, now), now))
	}
	l.Minute.Take(own.Budget, now)
	l.Hour.Take(own.Budget, now)
	return l, Lease{
		Concurrent: own.Concurrent, Budget: own.Budget, More: own.Budget < part, Given: now, Instances: len(l.Shares), Granted: true,
		Minute: minute, Hour: hour, Uses: l.Uses, Left: l.left(s, now), Seen: &l,
	}
}

// portion returns how much of what is left a lease may bring while several priorities ask.
// What an instance has is used as far as others know, and may not be, so altogether that is
// a quarter.
func (l *Ledger) portion(left int, now time.Time) int {
	alive := 0
	for _, h := range l.Shares {
		if h.Expires.After(now) {
			alive++
		}
	}
	return min(left, max(left/(4*max(alive, 1)), 1))
}

// beginning returns how much of what is left a first lease may bring. More urgent operations
// may have come due at the same moment at an instance that has yet to say so, and the next
// lease can be had at once.
func beginning(c *Claim, s Settings, minute, hour int) int {
	most := math.MaxInt
	if p, ok := c.Uses.mostUrgent(time.Minute, c.Now); ok && s.PerMinute > 0 {
		most = minute - s.PerMinute*reserves[p]/100
	}
	if p, ok := c.Uses.mostUrgent(time.Hour, c.Now); ok && s.PerHour > 0 {
		most = min(most, hour-s.PerHour*reserves[p]/100)
	}
	return most
}

const (
	// leastAmple is worth one write of the ledger: most keys never use more.
	leastAmple = 64
	// ampleFactor is how many times a lease exceeds what was used. Leases are renewed
	// after a third to half of [LeaseTime], so a key may become at least three times as
	// busy before its lease is used up and needs another at once.
	ampleFactor = 8
)

// ample returns how much of a budget an instance can use until it renews, judging by
// what it used since it last did and by its demand now. Anything more would be out of
// reach of the others, and lost if it died.
func ample(used, demand int) int { return max(leastAmple, ampleFactor*(used+demand)) }

// share returns the index of an instance's share and adds one if there is none.
func (l *Ledger) share(instance string) int {
	i := slices.IndexFunc(l.Shares, func(h Share) bool { return h.Instance == instance })
	if i < 0 {
		i = len(l.Shares)
		l.Shares = append(l.Shares, Share{Instance: instance})
	}
	return i
}

// Empties returns when the ledger may be dropped if nobody renews: every share has
// run out and every window is empty.
func (l *Ledger) Empties(now time.Time) time.Time {
	latest := now
	for _, at := range []time.Time{l.Minute.empties(now), l.Hour.empties(now)} {
		if at.After(latest) {
			latest = at
		}
	}
	for _, h := range l.Shares {
		if at := h.Expires.Add(graceTime); at.After(latest) {
			latest = at
		}
	}
	return latest
}

// settle returns to the windows what the instance did not use of its last lease and
// counts what it let through without one. It returns the sum of what was used.
func (l *Ledger) settle(own *Share, c Claim, now time.Time) (used int) {
	unused, extra := min(c.Unused, own.Budget), c.Extra
	if !own.Given.Equal(c.Heard) {
		// It handed these in before, and the lease for them has not reached it.
		unused = own.Budget
		if own.Heard.Equal(c.Heard) {
			extra -= own.Extra
		}
	}
	if !own.Given.IsZero() {
		l.Minute.GiveBack(unused, own.Given, now)
		l.Hour.GiveBack(unused, own.Given, now)
	}
	l.Minute.Take(extra, now)
	l.Hour.Take(extra, now)
	own.Heard, own.Extra = c.Heard, c.Extra
	return own.Budget - max(unused, 0) + max(extra, 0)
}

// concurrent returns how many operations the share at i may have in flight.
func (l *Ledger) concurrent(i, inFlight, limit int, now time.Time) int {
	free := limit
	for j := range l.Shares {
		if j != i && l.Shares[j].Expires.After(now) {
			free -= l.Shares[j].Concurrent
		}
	}
	// What is in flight under the last lease cannot be revoked.
	fair := max(l.fair(i, limit, now), min(inFlight, l.Shares[i].Concurrent))
	return max(min(fair, free), 0)
}

// fair returns the fair share at i by the demands of the live instances, with its
// part of what nobody demands.
func (l *Ledger) fair(i, limit int, now time.Time) int {
	alive := make([]int, 0, len(l.Shares))
	for j := range l.Shares {
		if j == i || l.Shares[j].Expires.After(now) {
			alive = append(alive, j)
		}
	}
	slices.SortFunc(alive, func(a, b int) int {
		if d := l.Shares[a].Demand - l.Shares[b].Demand; d != 0 {
			return d
		}
		return a - b
	})
	share, left := 0, limit
	for k, j := range alive {
		even := (left + len(alive) - k - 1) / (len(alive) - k)
		part := min(l.Shares[j].Demand, even)
		left -= part
		if j == i {
			share = part
		}
	}
	return share + left/len(alive)
}

// budget returns how many operations the instance may let through: its part, in
// proportion to its demand, of what is left in both windows.
func (l *Ledger) budget(own *Share, s Settings, now time.Time) int {
	if s.PerMinute <= 0 && s.PerHour <= 0 {
		return 0
	}
	left := l.left(s, now)
	demand, alive := 0, 0
	for j := range l.Shares {
		if l.Shares[j].Expires.After(now) {
			demand += l.Shares[j].Demand
			alive++
		}
	}
	if demand == 0 {
		return (left + alive - 1) / alive
	}
	if own.Demand == 0 && demand >= left {
		return 0 // the others need all of it
	}
	// An instance that has nothing to do keeps a little to begin with.
	part := (left*own.Demand + demand - 1) / demand
	return min(left, max(part, (left+10*alive-1)/(10*alive)))
}

// left returns how much of both budgets nobody has.
func (l *Ledger) left(s Settings, now time.Time) int {
	switch minute, hour := l.leftOfEach(s, now); {
	case s.PerMinute <= 0:
		return hour
	case s.PerHour <= 0:
		return minute
	default:
		return min(minute, hour)
	}
}

// leftOfEach returns how much of each budget nobody has, 0 without such a limit.
func (l *Ledger) leftOfEach(s Settings, now time.Time) (minute, hour int) {
	if s.PerMinute > 0 {
		minute, _ = l.Minute.Available(s.PerMinute, now)
	}
	if s.PerHour > 0 {
		hour, _ = l.Hour.Available(s.PerHour, now)
	}
	return minute, hour
}

// share returns this instance's part of a limit without a valid lease. Every
// instance has at least 1, so a limit below the number of instances may be exceeded
// by up to that number.
func (l *Lease) share(limit int) int {
	if l.Instances <= 1 {
		return limit
	}
	return max(limit/l.Instances, 1)
}
