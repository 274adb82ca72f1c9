package scheduler

import (
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/gate"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// Quota is what the lanes of a key may let out at this instance: what its own gate
// lets through.
type Quota struct {
	// N is how many operations may be let out now, including those that were let out
	// and have not arrived yet, or [breaker.Unlimited]. It is 0 or less if enough wait
	// at the gate.
	N int
	// Shut is whether the gate lets none through, Cause why, and Next when to ask
	// again, as in [Shut].
	Shut  bool
	Cause gate.Cause
	Next  time.Time
	// Arrivals counts the operations that arrived at the gate, and InFlight those that it
	// let through and whose attempts have not ended.
	Arrivals uint64
	InFlight int
}

// lookAhead is how far in advance the lanes of a governed key let operations out, so
// that the gate never waits for them.
const lookAhead = 100 * time.Millisecond

// thresholdPoll is how often the lanes ask for a key that has its share of the instance, or
// as many attempts in flight as its target may be exposed to.
const thresholdPoll = 100 * time.Millisecond

// Quota returns what the lanes of a key may let out now, for operations of a priority.
// It reserves nothing: only a [Pass] does.
func (g *Gates) Quota(pol *policy.Policy, service, operation string, p events.Priority, now time.Time) Quota {
	key := events.Key(service, operation)
	k, b := g.of(pol, key), g.breaker(pol, key)
	defer k.release()
	g.want(k, now)
	a := k.ready(g.conditions(k, b, kind{p, pol.RespectGlobalBackpressure}, now), now)
	report := k.gate.Report()
	q := Quota{N: a.N, Cause: a.Cause, Next: a.Next, Arrivals: k.arrivals.Load(), InFlight: report.InFlight}
	switch {
	case a.N == breaker.Unlimited:
		return q
	case a.Cause == gate.CauseGovernor && a.N == 0 && a.Next.Sub(now) > lookAhead:
		q.Shut, q.Next = true, a.Next.Add(-lookAhead/2)
		return q
	case a.Cause == gate.CauseGovernor:
		// What is let out waits at the gate for its moment.
		q.N = max(a.N, ahead(report))
	case a.Cause == gate.CauseConcurrency && report.InFlight+a.N > 0:
		q.N = a.N + min(report.InFlight+a.N, maxWaiting/2)
	case a.Cause == gate.CauseBackpressure && a.N > 0:
		// What one instance lets out may arrive at another, so each paces its own lanes, too.
		q.N = 1
		if next := k.lastReleased().Add(g.trickle(pol.RespectGlobalBackpressure)); now.Before(next) {
			q.N, q.Next = 0, next
		}
	case a.Cause == gate.CauseBreaker && a.N > 0 && k.awaitsProbe():
		q.N, q.Next = a.N-1, now.Add(lookEvery)
	case a.N > 0:
	case a.Cause == gate.CauseThreshold, a.Cause == gate.CauseExposure:
		q.Next = now.Add(thresholdPoll) // other keys move the one, and an answer ends the other
	case a.Cause == gate.CauseBudgetShare, a.Cause == gate.CauseConcurrency:
		g.renew(k, a.Cause, now)
		if q.Next.IsZero() {
			q.Next = now.Add(gate.LeaseTime)
		}
	}
	q.Shut = q.N == 0
	q.N -= k.waiting()
	return q
}

// Released notes that the lanes of a key have let operations out at now.
func (g *Gates) Released(service, operation string, now time.Time) {
	if k := g.known(events.Key(service, operation)); k != nil {
		k.mu.Lock()
		k.released = now
		k.mu.Unlock()
	}
}

// Early returns how many parked operations of a key and a priority may be let out before
// they are due. They must have been parked before parkedBefore: later ones were not parked
// because of the outage. coming is how many were let out and have not arrived yet.
// ever is false if none may be let out until the breaker next closes.
func (g *Gates) Early(pol *policy.Policy, service, operation string, p events.Priority, coming int, now time.Time) (n int, parkedBefore time.Time, ever bool) {
	key := events.Key(service, operation)
	b := g.breaker(pol, key)
	if b == nil {
		return 0, time.Time{}, false
	}
	k := g.of(pol, key)
	defer k.release()
	g.want(k, now)
	coming += k.waiting()
	c := g.conditions(k, b, kind{p, pol.RespectGlobalBackpressure}, now)
	if c.Pause.Limited {
		return 0, time.Time{}, false
	}
	n, parkedBefore = k.gate.Early(c, 0, coming, now)
	report := k.gate.Report()
	if n > 0 && n != breaker.Unlimited {
		n = max(n, ahead(report)-coming)
	}
	return n, parkedBefore, report.Governed && !parkedBefore.IsZero()
}

// Backlog notes that operations of a key are parked that [Gates.Early] may let out.
func (g *Gates) Backlog(service, operation string) {
	if k := g.known(events.Key(service, operation)); k != nil {
		k.gate.Backlog()
	}
}

// ahead returns how many operations of a governed key are let out in advance.
func ahead(r gate.Report) int { return min(int(r.Rate*lookAhead.Seconds())+1, maxWaiting/2) }

// Opens returns when the shut gate of a key can open at the earliest. It is zero if
// the gate is open or the time is not known.
func (g *Gates) Opens(pol *policy.Policy, service, operation string, now time.Time) time.Time {
	b := g.breaker(pol, events.Key(service, operation))
	if b == nil || b.State() != breaker.Open {
		return time.Time{}
	}
	_, next := b.Ready(now)
	return next
}
