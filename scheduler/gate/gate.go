package gate

import (
	"slices"
	"sync"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
)

// Gate is the gate of one key at one instance. It is safe for concurrent use and
// allocates nothing once it is made.
type Gate struct {
	mu          sync.Mutex // guards the fields below
	settings    Settings
	lease       Lease
	heard       time.Time // Given of the last lease that came from the ledger
	seen        *Ledger   // the ledger after that
	unused      int       // of that lease, what was handed in and may not be used any more
	used        int       // let through by the lease in force
	extra       int       // let through without a lease since that one was requested
	reported    int       // of extra, what was handed in
	inFlight    int
	minute      Window
	hour        Window
	uses        Uses
	retryBudget RetryBudget
	governor    Governor
	exposure    Exposure
	recent      recent
	trickle     Trickle
	shut        bool // the breaker was not closed when last checked
}

// Settings are the gate's part of a policy. The zero value limits nothing by
// itself; the retry budget and the governor always apply.
type Settings struct {
	// BreakerThreshold is how many failures in a row open the key's breaker
	// (circuitBreakerThreshold), and BreakerMinimumCalls after how many calls its failure
	// rate may (circuitBreakerMinimumCalls), 0 when that is not used. They bound the
	// [Exposure]; a threshold of 0, for a key without a breaker, does not.
	BreakerThreshold, BreakerMinimumCalls int
	// MaxConcurrent is how many operations may be in flight at once
	// (maxConcurrentRetries); 0 means no limit.
	MaxConcurrent int
	// PerMinute and PerHour are how many operations may go in any minute and in
	// any hour (retryBudgetPerMinute, retryBudgetPerHour); 0 means no limit.
	PerMinute, PerHour int
}

// Budget returns the cause that the spending of a share of the budgets is reported as.
func (s *Settings) Budget() Cause {
	if s.PerMinute > 0 {
		return CauseBudgetPerMinute
	}
	return CauseBudgetPerHour
}

// Conditions are what shuts a gate from outside. The zero value shuts nothing.
type Conditions struct {
	// Pause is what a pause of the key leaves.
	Pause Bound
	// Breaker is what the key's breaker lets through.
	Breaker Bound
	// Dependencies is what the breakers of the key's dependencies let through.
	Dependencies Bound
	// Trickle is the pause between two attempts of a failing key while global
	// backpressure is on, and 0 while it is off or the operations in question do not
	// respect it (respectGlobalBackpressure). A key that succeeds passes untouched, and
	// so do critical operations.
	Trickle time.Duration
	// Threshold is how many attempts of the key may be in flight at this instance; see
	// [Threshold]. 0 is no limit.
	Threshold int
	// Instances is how many instances there are, with this one; 0 counts as 1.
	Instances int
	// Priority is the priority of the operations in question.
	Priority events.Priority
	// Unpaced leaves out the exposure, the retry budget and the governor.
	Unpaced bool
}

// Bound is how many attempts something outside the gate lets through now. The zero
// value is no bound.
type Bound struct {
	// Limited is whether N applies.
	Limited bool
	N       int
	// Next is when to ask again if N is 0; zero when that is not known.
	Next time.Time
}

// Bounded makes a bound of what [breaker.Breaker.Ready] returns.
func Bounded(n int, next time.Time) Bound {
	return Bound{Limited: n != breaker.Unlimited, N: n, Next: next}
}

// And returns what both bounds let through, for a key with several dependencies.
func (b Bound) And(o Bound) Bound {
	switch {
	case !b.Limited:
		return o
	case !o.Limited:
		return b
	}
	n, next := min(b.N, o.N), b.Next
	if b.N > 0 || o.N == 0 && o.Next.After(next) {
		next = o.Next
	}
	return Bound{Limited: true, N: n, Next: next}
}

// Answer is how many operations may go now.
type Answer struct {
	// N is the number, or [breaker.Unlimited].
	N int
	// Cause is what limits N, empty when nothing does.
	Cause Cause
	// Next is when to ask again if N is 0. Zero means not before something
	// changes: a pass is done, the breaker changes, or a new lease or new settings
	// arrive.
	Next time.Time
}

// Cause is what shuts a gate.
type Cause string

// The causes; of several that apply, the first in this order is named.
const (
	// CausePaused: an operator has paused the key.
	CausePaused Cause = "paused"
	// CauseAbsent: nobody listens on the target; see [Absences].
	CauseAbsent Cause = "absent"
	// CauseBreaker: the breaker is open, or its probes are in flight.
	CauseBreaker Cause = "breaker"
	// CauseDependency: the breaker of a dependency is open.
	CauseDependency Cause = "dependency"
	// CauseBackpressure: most services fail, and so does this key.
	CauseBackpressure Cause = "backpressure"
	// CauseConcurrency: the limit of operations in flight is reached.
	CauseConcurrency Cause = "concurrency"
	// CauseThreshold: the key has its share of what this instance may have in flight.
	// Others see it as [CauseConcurrency].
	CauseThreshold Cause = "threshold"
	// CauseExposure: the target may be dead, and as many attempts are in flight as show
	// that; see [Exposure]. Others see it as [CauseConcurrency].
	CauseExposure Cause = "exposure"
	// CauseBudgetPerMinute and CauseBudgetPerHour: the budget is spent.
	CauseBudgetPerMinute Cause = "budget_minute"
	CauseBudgetPerHour   Cause = "budget_hour"
	// CauseBudgetShare: this instance's share of the budgets is spent. A new
	// lease may bring more at once. What others see is the budget; see [Settings.Budget].
	CauseBudgetShare Cause = "budget_share"
	// CauseRetryBudget: too many attempts fail for the few that succeed.
	CauseRetryBudget Cause = "retry_budget"
	// CauseGovernor: the governor paces the release.
	CauseGovernor Cause = "governor"
)

// Causes are the causes as others see them, in their order.
var Causes = []Cause{
	CausePaused, CauseAbsent, CauseBreaker, CauseDependency, CauseBackpressure, CauseConcurrency, CauseBudgetPerMinute, CauseBudgetPerHour,
	CauseRetryBudget, CauseGovernor,
}

// Pass is the permission for one attempt. The zero value permits none.
type Pass struct {
	gate  *Gate
	epoch uint32        // of the governor
	span  uint32        // of the exposure
	own   time.Duration // see Delayed
}

// New returns a gate that has let nothing through yet.
func New(s Settings) *Gate {
	return &Gate{settings: s, minute: NewWindow(time.Minute), hour: NewWindow(time.Hour)}
}

// Set replaces the settings. Earlier attempts count under the new ones.
func (g *Gate) Set(s Settings) {
	g.mu.Lock()
	g.settings = s
	g.mu.Unlock()
}

// Share puts a lease from the ledger in force; see [Ledger].
func (g *Gate) Share(l Lease) {
	g.mu.Lock()
	if l.Granted {
		g.heard, g.unused, g.seen = l.Given, 0, l.Seen
		g.extra, g.reported = g.extra-g.reported, 0
	} else {
		g.unused += g.lease.Budget
		l.Left, l.LeftUntil = g.lease.Left, g.lease.LeftUntil
	}
	if l.Granted && !l.Until.IsZero() {
		g.uses.merge(l.Uses, l.Until.Add(-LeaseTime).Sub(l.Given))
	}
	g.lease, g.used = l, 0
	g.mu.Unlock()
}

// HandIn returns the claim to renew the lease with, without the instance and what
// is in flight or waiting. It ends the use of the current budget: the rest is handed
// in, and handed in again until a lease answers it.
func (g *Gate) HandIn(now time.Time) Claim {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.unused, g.lease.Budget = g.unused+g.lease.Budget, 0
	g.reported = g.extra
	return Claim{InFlight: g.inFlight, Heard: g.heard, Unused: g.unused, Extra: g.extra, Seen: g.seen, Uses: g.uses, Now: now}
}

// Idle reports whether at now the gate could be replaced by a new one: nothing is in
// flight, the governor is off, and what was spent of budgets has left the windows or
// is known to the ledger.
func (g *Gate) Idle(now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inFlight > 0 || g.shut || !g.governor.Idle(g.inFlight, now) || g.leased(now) || g.retryBudget.short(now) {
		return false
	}
	reported := !g.heard.IsZero() && !g.unreported()
	return reported || g.minute.empty(now) && g.hour.empty(now)
}

// Unreported reports whether the ledger has yet to learn how much of its last lease
// this instance used.
func (g *Gate) Unreported() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.unreported()
}

// Lent reports whether other instances had some of the budgets when the last lease came. They
// give back what they do not use, so more may come.
func (g *Gate) Lent() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.seen != nil && slices.ContainsFunc(g.seen.Shares, func(s Share) bool { return s.Budget > 0 && !s.Given.Equal(g.heard) })
}

func (g *Gate) unreported() bool {
	return g.budgeted() && (g.lease.Budget > 0 || g.unused > 0 || g.extra > 0)
}

// Recover makes the governor pace what waited for a target that is back.
func (g *Gate) Recover(now time.Time) {
	g.mu.Lock()
	g.governor.Return(now)
	g.mu.Unlock()
}

// Ready returns how many operations may go now. It reserves nothing: only a pass
// does. Call it also whenever the key's breaker changes, so that the governor
// learns of an outage and of its end.
func (g *Gate) Ready(c Conditions, now time.Time) Answer {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ready(&c, now)
}

// Enter lets one operation through if the gate allows it. If ok, [Pass.Done] must
// be called once; otherwise the answer says why not and when to ask again.
func (g *Gate) Enter(c Conditions, now time.Time) (p Pass, a Answer, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.budgeted() {
		g.uses.ask(c.Priority, now.UnixNano())
	}
	a = g.ready(&c, now)
	if a.N == 0 {
		return Pass{}, a, false
	}
	g.inFlight++
	if g.trickles(&c, now) {
		g.trickle.Take(c.Trickle, now)
	}
	if g.settings.PerMinute > 0 {
		g.minute.Take(1, now)
	}
	if g.settings.PerHour > 0 {
		g.hour.Take(1, now)
	}
	if g.budgeted() {
		g.spend(c.Priority, now)
	}
	return Pass{gate: g, epoch: g.governor.Take(now), span: g.exposure.Take(now)}, a, true
}

// spend counts an operation that uses up budgets.
func (g *Gate) spend(p events.Priority, now time.Time) {
	g.uses.Went[p] = now.UnixNano()
	switch {
	case g.leased(now):
		g.lease.Budget--
		g.used++
	case g.lease.Instances > 0:
		g.extra++
	}
}

// Early returns how many parked operations may be released before they are due,
// of those that were parked before the given time; see [Governor.Early]. held is
// how many operations wait in the lanes of the key, and coming how many were
// released early and have not arrived yet.
func (g *Gate) Early(c Conditions, held, coming int, now time.Time) (n int, parkedBefore time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.ready(&c, now)
	ok, parkedBefore := g.governor.Early(held, g.inFlight, now)
	if !ok {
		return 0, parkedBefore
	}
	return max(a.N-coming, 0), parkedBefore
}

// Backlog records that operations are parked that may be released early; see
// [Governor.Backlog].
func (g *Gate) Backlog() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.governor.Backlog()
}

// OnlySlow reports whether the governor slows a target that has become slow, of which nothing
// has failed; see [Governor.OnlySlow].
func (g *Gate) OnlySlow() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.governor.OnlySlow()
}

// Report describes a gate for the status.
type Report struct {
	InFlight int `json:"inFlight"`
	// Governed is whether the governor limits the release; Rate is its limit of
	// operations a second and Concurrency its limit of operations in flight.
	Governed    bool    `json:"governed"`
	Rate        float64 `json:"rate,omitempty"`
	Concurrency int     `json:"concurrency,omitempty"`
}

// Report returns the gate's state.
func (g *Gate) Report() Report {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := Report{InFlight: g.inFlight, Governed: g.governor.On()}
	if r.Governed {
		r.Rate, r.Concurrency = g.governor.Rate(), g.governor.Concurrency()
	}
	return r
}

// Delayed returns the pass for an attempt whose response time may be the instance's own
// delay for as long as own; see [Delays.Own]. The governor takes none of that for the
// target's.
func (p Pass) Delayed(own time.Duration) Pass {
	p.own = own
	return p
}

// Done records how the attempt ended and how long it took. It must be called once
// for every pass, with [Unused] if the attempt was not made, which does not refund
// the budget.
func (p Pass) Done(r Result, took time.Duration, now time.Time) {
	g := p.gate
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inFlight--
	g.exposure.Done(p.span, r, now)
	g.recent.add(r, now)
	g.retryBudget.Done(r, now)
	g.governor.Done(p.epoch, r, g.governor.ofTarget(took, p.own), now)
}

// ready combines everything that may shut the gate.
func (g *Gate) ready(c *Conditions, now time.Time) Answer {
	g.watch(&c.Breaker, now)
	a := Answer{N: breaker.Unlimited}
	if c.Pause.Limited {
		a.limit(c.Pause.N, CausePaused, c.Pause.Next)
		return a // of a gate that opens by an operator's word, nothing else matters
	}
	if c.Breaker.Limited {
		a.limit(c.Breaker.N, CauseBreaker, c.Breaker.Next)
	}
	if c.Dependencies.Limited {
		a.limit(c.Dependencies.N, CauseDependency, c.Dependencies.Next)
	}
	if g.trickles(c, now) {
		n, next := g.trickle.Available(c.Trickle, now)
		a.limit(n, CauseBackpressure, next)
	}
	g.limitByShares(&a, c.Priority, now)
	if free := c.Threshold - g.inFlight; c.Threshold > 0 && free < nearThreshold {
		a.limit(free, CauseThreshold, time.Time{})
	}
	if c.Unpaced {
		return a
	}
	// While the breaker lets probes through, their number is bound enough.
	if !c.Breaker.Limited {
		if n, next, limited := g.exposure.Available(&g.settings, c.Instances, now); limited {
			a.limit(n, CauseExposure, next)
		}
	}
	if n, next, limited := g.retryBudget.Available(g.inFlight, now); limited {
		a.limit(n, CauseRetryBudget, next)
	}
	// While the breaker lets probes through, their number is pace enough.
	if !c.Breaker.Limited {
		if n, next, limited := g.governor.Available(g.inFlight, now); limited {
			a.limit(n, CauseGovernor, next)
		}
	}
	return a
}

// trickles reports whether backpressure slows the operations in question.
func (g *Gate) trickles(c *Conditions, now time.Time) bool {
	return c.Trickle > 0 && c.Priority != events.Critical && g.recent.failing(now)
}

// limitByShares applies the policy's limits to operations of p: in full when this instance
// is alone, by its lease, or by an even share when the lease has run out.
func (g *Gate) limitByShares(a *Answer, p events.Priority, now time.Time) {
	s := &g.settings
	leased := g.leased(now)
	if s.MaxConcurrent > 0 {
		limit := g.lease.share(s.MaxConcurrent)
		if leased {
			limit = g.lease.Concurrent
		}
		a.limit(limit-g.inFlight, CauseConcurrency, time.Time{})
	}
	if !g.budgeted() {
		return
	}
	if leased {
		a.limit(g.lease.Budget, CauseBudgetShare, time.Time{})
	}
	for _, b := range g.budgets() {
		switch {
		case b.limit <= 0:
		case !leased:
			n, next := g.ofWindow(&b, p, now)
			a.limit(n, b.cause, next)
		case g.lease.Granted && g.lease.Budget > 0:
			if n, next, limited := g.ofLease(&b, p, now); limited {
				a.limit(n, b.cause, next)
			}
		}
	}
	// What was left of the budgets at the last lease is divided too, until
	// enough time has passed that more may be left.
	if !leased && now.Before(g.lease.LeftUntil) {
		a.limit(g.lease.Left/max(g.lease.Instances, 1)-g.extra, CauseBudgetShare, g.lease.LeftUntil)
	}
}

func (g *Gate) leased(now time.Time) bool {
	return !g.lease.Until.IsZero() && !Over(g.lease.Until, now)
}

// Over reports whether now is past end by the monotonic or by the wall clock: the
// one stands still while the machine sleeps, and the other may be set back.
func Over(end, now time.Time) bool {
	return !now.Before(end) || !now.Round(0).Before(end.Round(0))
}

// Lapsed reports whether the lease has ended and nothing has replaced it. An
// operation that entered under it and has not begun must not begin.
func (g *Gate) Lapsed(now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lease.Granted && !g.leased(now)
}

func (g *Gate) budgeted() bool { return g.settings.PerMinute > 0 || g.settings.PerHour > 0 }

// watch notices when the breaker has closed again.
func (g *Gate) watch(b *Bound, now time.Time) {
	if g.shut && !b.Limited {
		g.governor.Recover(now)
		g.exposure.Recover(now)
	}
	g.shut = b.Limited
}

// Limit lowers the answer to what a bound from outside lets through.
func (a *Answer) Limit(b Bound, cause Cause) {
	if b.Limited {
		a.limit(b.N, cause, b.Next)
	}
}

// limit lowers the answer to n. If several causes shut the gate, the latest Next
// counts, because the gate stays shut until the last of them ends.
func (a *Answer) limit(n int, cause Cause, next time.Time) {
	n = max(n, 0)
	if n == 0 && next.After(a.Next) {
		a.Next = next
	}
	if n < a.N {
		a.N, a.Cause = n, cause
	}
}
