package gate

import (
	"time"

	"github.com/rebound-mq/rebound/events"
)

// Uses are when operations of each priority last asked for one of the budgets of a key,
// and when one last went: Unix nanoseconds by one clock, 0 for never. By them the budgets
// keep a reserve for what is more urgent: trunk reservation, by which telephone networks
// (Kelly, "Loss Networks", 1991) let a class of calls in only while more than so many
// circuits are free. It protects the urgent without a forecast of how much of it comes.
//
// Whoever asks while something more urgent asked within the span of the budget, a minute
// or an hour, leaves some of it: low half, normal a quarter, high a tenth, critical
// nothing. So critical operations find half of a budget beside low ones, and a tenth
// whatever else comes. A priority that is alone leaves nothing.
//
// In return each priority has a small guaranteed share, that of [RoundRobin] and at least
// one operation a span, or an eighth of a budget below 8. If it asks and none of it went
// for that long, its next one leaves nothing for the reserve. If it was refused since, more
// urgent ones leave it that one.
type Uses struct {
	Asked [len(events.Priorities)]int64 `json:"asked,omitzero"`
	Went  [len(events.Priorities)]int64 `json:"went,omitzero"`
	// began is when each was first known to ask here.
	began [len(events.Priorities)]int64
}

// reserves are what each priority leaves of a budget, in hundredths, rounded down.
var reserves = [...]int{events.Critical: 0, events.High: 10, events.Normal: 25, events.Low: 50}

// smallBudget is the budget that guarantees each priority one operation a span; a smaller
// one guarantees this part of it.
const smallBudget = 8

// leaves returns how much of a budget an operation of p must leave at now, and, unless
// that is nothing, when it may become less by time alone.
func (u *Uses) leaves(p events.Priority, limit int, span time.Duration, now time.Time) (n int, until time.Time) {
	t := now.UnixNano()
	ends := int64(0)
	add := func(k int, end int64) {
		if n += k; ends == 0 || end < ends {
			ends = end
		}
	}
	urgent, below := int64(0), false
	for _, q := range events.Priorities {
		switch {
		case q == p:
			below = true
		case below && u.owed(q, limit, span, t):
			add(1, u.Asked[q]+int64(span))
		case !below && within(u.Asked[q], span, t):
			urgent = max(urgent, u.Asked[q])
		}
	}
	if reserve := limit * reserves[p] / 100; urgent > 0 && reserve > 0 {
		if due := u.due(p, limit, span, t); t < due {
			add(reserve, min(due, urgent+int64(span)))
		}
	}
	if n == 0 {
		return 0, time.Time{}
	}
	return n, time.Unix(0, ends)
}

// owed reports whether none of p has gone for as long as it is guaranteed one, although it
// asked since.
func (u *Uses) owed(p events.Priority, limit int, span time.Duration, t int64) bool {
	return u.Asked[p] > max(u.Went[p], u.began[p]) && within(u.Asked[p], span, t) && t >= u.due(p, limit, span, t)
}

// due returns when p, of a priority below critical that asks at t, is guaranteed another
// operation.
func (u *Uses) due(p events.Priority, limit int, span time.Duration, t int64) int64 {
	since := max(u.Went[p], u.began[p])
	if u.Asked[p] == 0 {
		since = t // for the first time
	}
	most := int64(span) * int64(max(smallBudget, limit)) / int64(limit)
	return since + min(int64(span)*100/(int64(shares[p])*int64(limit)), most)
}

// within reports whether t is less than a span away from a time; 0 is never.
func within(at int64, span time.Duration, t int64) bool {
	return at > 0 && t-at < int64(span) && at-t < int64(span)
}

// several reports whether more than one priority asked within a span.
func (u *Uses) several(span time.Duration, now time.Time) bool {
	n := 0
	for _, asked := range u.Asked {
		if within(asked, span, now.UnixNano()) {
			n++
		}
	}
	return n > 1
}

// mostUrgent returns the most urgent priority that asked within a span.
func (u *Uses) mostUrgent(span time.Duration, now time.Time) (p events.Priority, ok bool) {
	for _, p := range events.Priorities {
		if within(u.Asked[p], span, now.UnixNano()) {
			return p, true
		}
	}
	return p, false
}

// ask records that an operation of p asks.
func (u *Uses) ask(p events.Priority, t int64) {
	if u.Asked[p] == 0 {
		u.began[p] = t
	}
	u.Asked[p] = t
}

// merge adds what another instance knows, whose clock is by so much behind.
func (u *Uses) merge(o Uses, behind time.Duration) {
	for p := range o.Asked {
		if at := o.Asked[p] + int64(behind); o.Asked[p] > 0 && at > u.Asked[p] {
			u.ask(events.Priority(p), at)
		}
		if at := o.Went[p] + int64(behind); o.Went[p] > 0 {
			u.Went[p] = max(u.Went[p], at)
		}
	}
}

// budget is one of the two budgets of a gate.
type budget struct {
	limit  int // 0 is no limit
	span   time.Duration
	cause  Cause
	window *Window
	leased int // what of it was left at the last lease, with what that brought
}

func (g *Gate) budgets() [2]budget {
	return [...]budget{
		{g.settings.PerMinute, time.Minute, CauseBudgetPerMinute, &g.minute, g.lease.Minute},
		{g.settings.PerHour, time.Hour, CauseBudgetPerHour, &g.hour, g.lease.Hour},
	}
}

// ofWindow returns how many operations of p may go by this instance's own count.
func (g *Gate) ofWindow(b *budget, p events.Priority, now time.Time) (n int, next time.Time) {
	limit := g.lease.share(b.limit)
	leaves, until := g.uses.leaves(p, limit, b.span, now)
	n, next = b.window.Available(limit-leaves, now)
	if n <= 0 && leaves > 0 && (next.IsZero() || until.Before(next)) {
		next = until
	}
	return max(n, 0), next
}

// ofLease returns how many operations of p the reserve allows under the lease; limited is
// false if it does not matter. What other instances have counts as used.
func (g *Gate) ofLease(b *budget, p events.Priority, now time.Time) (n int, next time.Time, limited bool) {
	leaves, until := g.uses.leaves(p, b.limit, b.span, now)
	return max(b.leased-g.used-leaves, 0), until, leaves > 0
}

// Note records that operations of some priorities wait in the lanes, or for their turn.
func (g *Gate) Note(w Waiting, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.budgeted() {
		return
	}
	for _, p := range events.Priorities {
		if w.Has(p) {
			g.uses.ask(p, now.UnixNano())
		}
	}
}

// Reserved returns the priorities of which none may go although others may, or could if
// there were one more of the budgets.
func (g *Gate) Reserved(now time.Time) (w Waiting) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.budgeted() {
		return 0
	}
	leased := g.leased(now)
	for _, b := range g.budgets() {
		if b.limit <= 0 {
			continue
		}
		for _, p := range events.Priorities {
			if g.refuses(&b, p, leased, now) {
				w = w.With(p)
			}
		}
	}
	return w
}

// refuses reports whether the reserve of a budget refuses p.
func (g *Gate) refuses(b *budget, p events.Priority, leased bool, now time.Time) bool {
	limit, left := b.limit, b.leased-g.used
	if !leased {
		limit = g.lease.share(limit)
		left, _ = b.window.Available(limit, now)
	}
	leaves, _ := g.uses.leaves(p, limit, b.span, now)
	return max(left, 1) <= leaves
}
