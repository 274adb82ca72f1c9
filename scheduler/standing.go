package scheduler

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/clip"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

// KeyReport is the state of one key's gate at this instance.
type KeyReport struct {
	// Key is service:operation.
	Key string `json:"key"`
	gate.Report
	// Cause is what limits the least urgent of the operations held, or those of normal
	// priority, now; empty when nothing does. Shut is whether none of them may pass.
	Cause gate.Cause `json:"cause,omitempty"`
	Shut  bool       `json:"shut"`
	// Since is since when operations are turned away for Cause, and Next when the gate is
	// asked again, zero if that is not known. Both are zero unless the key is shut or a
	// target of it is absent.
	Since time.Time `json:"since,omitzero"`
	Next  time.Time `json:"next,omitzero"`
	// Held is how many operations the lanes of the key held, over all instances, when this
	// one last counted them.
	Held int `json:"held"`
	// Waiting is how many operations this instance has in hand until somebody listens on
	// their target, or to be the next probe of the breaker.
	Waiting int `json:"waiting,omitempty"`
	// Error is what the last failure said that its breaker, which is not closed, counted, or
	// which operator opened it and why.
	Error string `json:"error,omitempty"`
	// Absent is the target on which nobody has listened for the longest time, nil when
	// there is none.
	Absent *gate.Absent  `json:"absent,omitempty"`
	pause  *events.Pause // what holds it, for Reason
}

// HeldUp returns how many operations of the key do not go on: those in its lanes, if its
// gate is shut, and those that wait in hand.
func (r *KeyReport) HeldUp() int {
	if r.Shut {
		return r.Held + r.Waiting
	}
	return r.Waiting
}

// Reason says in a few words what Cause is; empty when nothing limits the key.
func (r *KeyReport) Reason() string {
	if r.Cause == gate.CauseAbsent && r.Absent != nil {
		return "nobody listens on " + r.Absent.Subject
	}
	if r.Cause == gate.CauseBreaker && r.Error != "" {
		return reasons[r.Cause] + ": " + r.Error
	}
	if p := r.pause; p != nil && p.By != "" {
		says := p.By + " has paused " + p.Pattern.String()
		if p.Note != "" {
			says += ": " + p.Note
		}
		return says
	}
	return reasons[r.Cause]
}

var reasons = map[gate.Cause]string{
	gate.CausePaused:          "an operator has paused it",
	gate.CauseAbsent:          "nobody listens on the target",
	gate.CauseBreaker:         "its circuit breaker is not closed",
	gate.CauseDependency:      "the circuit breaker of a dependency is not closed",
	gate.CauseBackpressure:    "global backpressure is on, and it fails",
	gate.CauseConcurrency:     "as many attempts as may be are in flight",
	gate.CauseBudgetPerMinute: "the budget of the minute is spent, or its rest reserved for more urgent operations",
	gate.CauseBudgetPerHour:   "the budget of the hour is spent, or its rest reserved for more urgent operations",
	gate.CauseRetryBudget:     "too many attempts fail for the few that succeed",
	gate.CauseGovernor:        "the governor paces the release",
}

// Keys returns the keys that have a gate, in no order.
func (g *Gates) Keys() []string {
	all := g.all()
	keys := make([]string, len(all))
	for i, k := range all {
		keys[i] = k.key
	}
	return keys
}

// Standings returns the state of every gate of this instance, in no order.
func (g *Gates) Standings(now time.Time) []KeyReport {
	all := g.all()
	standings := make([]KeyReport, len(all))
	for i, k := range all {
		standings[i] = g.report(k, now)
	}
	return standings
}

func (g *Gates) report(k *keyGate, now time.Time) KeyReport {
	b, _ := g.breakers.Lookup(k.key)
	ready := func(p events.Priority) gate.Answer {
		return k.ready(g.conditions(k, k.heeds(b), kind{p, k.respects.Load()}, now), now)
	}
	p, held := k.heldBack()
	a := ready(p)
	if !held && (a.Cause == gate.CauseBudgetPerMinute || a.Cause == gate.CauseBudgetPerHour) {
		a = ready(events.Critical) // a reserve that holds nothing back limits nothing
	}
	absent, waiting := k.absent()
	// A key without a lease yet counts as shut only if operations wait for it.
	shut := a.N == 0 && (!momentary(a.Cause) || !k.unclaimed())
	if absent != nil && (a.N != 0 || momentary(a.Cause)) {
		a.Cause = gate.CauseAbsent
		shut = shut || a.N == 1 // the lanes let one operation out to look whether others of the key are answered
	}
	if a.Cause == gate.CauseExposure && a.N > 0 {
		a.Cause = "" // nothing waits for that
	}
	a.Cause = reported(a.Cause, k)
	r := KeyReport{Key: k.key, Report: k.gate.Report(), Cause: a.Cause, Shut: shut, Absent: absent, Held: k.counted(), Waiting: waiting}
	if shut {
		r.Since, r.Next = k.shutSince(a.Cause, now).UTC(), a.Next.UTC()
	}
	g.explain(&r, k, b, now)
	return r
}

// explain adds to the report of a key what is known of its cause.
func (g *Gates) explain(r *KeyReport, k *keyGate, b *breaker.Breaker, now time.Time) {
	switch {
	case r.Cause == gate.CauseAbsent && r.Absent != nil:
		r.Since, r.Next = r.Absent.Since.UTC(), r.Absent.Next.UTC() // the prober asks more often than the lanes do
	case r.Shut && r.Cause == gate.CausePaused:
		if r.pause = g.pauseOf(k, now); r.pause != nil {
			r.Since = r.pause.At.UTC()
		}
	case r.Shut && r.Cause == gate.CauseBreaker && b != nil:
		c := b.Circuit()
		r.Error = c.LastError
		if c.Forced() && c.Operated.Action != "" {
			r.Error = clip.Text(c.Operated.String(), breaker.MaxError)
		}
		if !c.OutageSince.IsZero() && c.OutageSince.Before(r.Since) {
			r.Since = c.OutageSince.UTC()
		}
	}
}

// heldBack returns the priority whose limits tell what holds the key back: the least urgent
// that waits in the lanes, or normal when none is held.
func (k *keyGate) heldBack() (p events.Priority, held bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range slices.Backward(events.Priorities[:]) {
		if k.held[p] > 0 {
			return p, true
		}
	}
	return events.Normal, false
}

// reported returns the cause as others see it.
func reported(c gate.Cause, k *keyGate) gate.Cause {
	switch c {
	case gate.CauseBudgetShare:
		return k.budget()
	case gate.CauseThreshold, gate.CauseExposure:
		return gate.CauseConcurrency
	}
	return c
}

// GateCounts counts the gates that are shut, govern the release or have operations in
// flight.
type GateCounts struct {
	All  int `json:"all"`
	Shut int `json:"shut"`
	// Causes counts the gates by what limits them.
	Causes map[gate.Cause]int `json:"causes"`
}

// Worst returns up to most gates that are shut, govern the release or have operations
// in flight, the worst first: those that are shut, then those with the most operations
// held and in flight. It counts all of them.
func (g *Gates) Worst(most int, now time.Time) ([]KeyReport, GateCounts) {
	counts := GateCounts{Causes: make(map[gate.Cause]int)}
	all := []KeyReport{}
	for _, s := range g.Standings(now) {
		if !s.Shut && s.InFlight == 0 && s.Held == 0 && s.Waiting == 0 && !s.Governed {
			continue // it has limits that stop nothing
		}
		counts.All++
		if s.Shut {
			counts.Shut++
		}
		if s.Cause != "" {
			counts.Causes[s.Cause]++
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b KeyReport) int {
		switch {
		case a.Shut && !b.Shut:
			return -1
		case b.Shut && !a.Shut:
			return 1
		}
		return cmp.Or(cmp.Compare(b.Held+b.InFlight, a.Held+a.InFlight), strings.Compare(a.Key, b.Key))
	})
	return slices.Clip(all[:min(most, len(all))]), counts
}

// Active returns how many attempts are in flight at this instance.
func (g *Gates) Active() int { return int(g.inFlight.Load()) }

// Counts returns how many attempts of the last minute succeeded and failed at this
// instance, of those that say something of their target's health.
func (g *Gates) Counts(now time.Time) (succeeded, failed int) { return g.tally.last(now) }

// Services returns the recent attempts of each service at this instance; see [gate.Votes].
func (g *Gates) Services(now time.Time) []events.ServiceAttempts { return g.tally.byService(now) }

// tally counts the attempts that say something of their target's health: those of the last
// minute, second by second, and those of each service. It is safe for concurrent use.
type tally struct {
	mu      sync.Mutex // guards the fields below
	seconds [60]struct {
		at                int64 // in Unix seconds
		succeeded, failed int
	}
	votes gate.Votes
}

// add counts an attempt.
func (t *tally) add(service events.ServiceHash, r gate.Result, now time.Time) {
	if r != gate.Success && r != gate.Failure {
		return
	}
	at := now.Unix()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.votes.Add(service, r, now)
	s := &t.seconds[uint64(at)%uint64(len(t.seconds))]
	if s.at != at {
		s.at, s.succeeded, s.failed = at, 0, 0
	}
	if r == gate.Success {
		s.succeeded++
	} else {
		s.failed++
	}
}

func (t *tally) byService(now time.Time) []events.ServiceAttempts {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.votes.Counts(now)
}

// last returns the counts of the last minute.
func (t *tally) last(now time.Time) (succeeded, failed int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.seconds {
		if age := now.Unix() - s.at; age >= 0 && age < int64(len(t.seconds)) {
			succeeded += s.succeeded
			failed += s.failed
		}
	}
	return succeeded, failed
}
