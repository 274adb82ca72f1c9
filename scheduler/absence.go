package scheduler

import (
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

const (
	// lookEvery is the longest pause between two requests for an absent target, and
	// looksPerSecond how many requests for all absent targets this instance makes a second.
	// With more of them each is asked for less often, but every slowestLook at least.
	lookEvery      = time.Second
	looksPerSecond = 200
	slowestLook    = 15 * time.Second
	// shortAbsence is how long a target may have been away and still get at once what
	// waited for it. After a longer absence the governor paces that.
	shortAbsence = time.Second
)

// inHand is who stays in hand until an absent target or a breaker may be asked again.
type inHand struct {
	absences gate.Absences
	prober   gate.Prober // of the breaker
}

// waiting returns how many operations that are.
func (h *inHand) waiting() int {
	n := h.absences.Probers()
	if h.prober.Awaits() {
		n++
	}
	return n
}

// waits changes who stays in hand for a key and counts them.
func (g *Gates) waits(k *keyGate, change func(*inHand)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	before := k.inHand.waiting()
	change(&k.inHand)
	g.probers.Add(int32(k.inHand.waiting() - before))
}

// absences changes the absences of a key.
func (g *Gates) absences(k *keyGate, change func(*gate.Absences)) {
	g.waits(k, func(h *inHand) { change(&h.absences) })
}

// AwaitProbe reports whether op, which its breaker has turned away, stays in hand to be the next
// probe; see [gate.Prober]. It asks again at next, until [Gates.Leave] is called. Otherwise it
// must be held.
func (g *Gates) AwaitProbe(op *events.Operation, shut *Shut, now time.Time) (next time.Time, ok bool) {
	left := shut.Next.Sub(now)
	if g == nil || shut.Cause != gate.CauseBreaker || left <= 0 || left > slowestLook || op.Failures() < 2 || int(g.probers.Load()) > g.config.MostProbers {
		return next, false
	}
	if k := g.known(op.Key()); k != nil {
		g.waits(k, func(h *inHand) { ok = h.prober.Await(op) })
	}
	// The breaker may close before.
	return now.Add(min(left, lookEvery)), ok
}

// probed records that the attempt of op is a probe.
func (g *Gates) probed(k *keyGate, op *events.Operation) {
	g.waits(k, func(h *inHand) { h.prober.Probes(op) })
}

// probeSucceeded records that a probe has succeeded.
func (g *Gates) probeSucceeded(k *keyGate) {
	g.waits(k, func(h *inHand) { h.prober.Succeeded() })
}

// awaitsProbe reports whether an operation stays in hand to be the breaker's next probe.
func (k *keyGate) awaitsProbe() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.prober.Awaits()
}

// mayAsk reports whether op may go to subject as far as absences are concerned.
func (g *Gates) mayAsk(k *keyGate, op *events.Operation, subject string, now time.Time) (next time.Time, ok bool) {
	g.absences(k, func(a *gate.Absences) { next, ok = a.Enter(op, subject, now) })
	return next, ok
}

// Missed records that nobody listens on the target; the pass is used up, and no attempt
// was made. If probes, the operation may stay in hand and ask again at next, until
// [Gates.Leave] is called; otherwise it must be held.
func (p Pass) Missed(now time.Time) (next time.Time, probes bool) {
	p.Done(gate.Unused, 0, now)
	g := p.gates
	if g == nil {
		return next, false
	}
	lasts := false
	g.absences(p.key, func(a *gate.Absences) {
		next, probes = a.Missed(p.op, p.subject, g.lookEvery(), now)
		lasts = a.Lasts(p.subject, shortAbsence, now)
	})
	if lasts {
		g.turnAway(p.key, gate.CauseAbsent, p.subject, now) // even if no other operation is
	}
	if !probes {
		g.opened(p.key.key) // the lanes ask when another may go
	}
	return next, probes
}

// Met records that somebody listens on the target, whatever the answer is.
func (p Pass) Met(now time.Time) {
	g := p.gates
	if g == nil {
		return
	}
	var lasted time.Duration
	var ended bool
	g.absences(p.key, func(a *gate.Absences) { lasted, ended = a.Met(p.subject, now) })
	if !ended {
		return
	}
	if lasted > shortAbsence {
		p.key.gate.Recover(now)
	}
	p.key.wake()
	g.opened(p.key.key)
}

// Leave records that op is not in hand any more, so that another operation may ask for
// its absent target or be the breaker's probe.
func (g *Gates) Leave(op *events.Operation) {
	if g == nil || g.probers.Load() == 0 {
		return
	}
	k := g.known(op.Key())
	if k == nil {
		return
	}
	left := false
	g.waits(k, func(h *inHand) { left = h.prober.Leave(op) })
	if left {
		g.opened(k.key)
	}
	g.leaveProbe(k, op)
}

func (g *Gates) leaveProbe(k *keyGate, op *events.Operation) {
	if g.probers.Load() == 0 {
		return
	}
	left := false
	g.absences(k, func(a *gate.Absences) { left = a.Leave(op) })
	if left {
		g.opened(k.key)
	}
}

// lookEvery returns the longest pause between two requests of a prober, 0 if no more may
// stay in hand.
func (g *Gates) lookEvery() time.Duration {
	probers := int(g.probers.Load())
	if probers > g.config.MostProbers {
		return 0
	}
	return min(max(lookEvery, time.Duration(probers)*time.Second/looksPerSecond), slowestLook)
}

// ready returns what the gate of a key lets through while targets are absent.
func (k *keyGate) ready(c gate.Conditions, now time.Time) gate.Answer {
	a := k.gate.Ready(c, now)
	k.mu.Lock()
	defer k.mu.Unlock()
	a.Limit(k.absences.Bound(now), gate.CauseAbsent)
	return a
}

// AbsentServices returns the services of which a target is absent, as far as this instance knows.
func (g *Gates) AbsentServices() map[string]bool {
	services := make(map[string]bool)
	for _, k := range g.all() {
		if absent, _ := k.absent(); absent == nil {
			continue
		}
		if service, _, err := events.SplitKey(k.key); err == nil {
			services[service] = true
		}
	}
	return services
}

// absent returns the longest absence of the key's targets, nil when there is none, and how
// many operations are in hand because of any or to be the breaker's next probe.
func (k *keyGate) absent() (longest *gate.Absent, waiting int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if absent, ok := k.absences.Longest(); ok {
		return &absent, k.inHand.waiting()
	}
	return nil, k.inHand.waiting()
}
