package simulator

import (
	"container/list"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/scheduler/gate"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// rebound is one instance of Rebound: parked operations, lanes and gates are in memory, and all
// decisions are those of the service.
type rebound struct {
	*clock
	site
	registry *health.Registry
	breakers *breaker.Group
	policies *policy.Set
	keys     map[string]*key
	hand     *hand // nil if there is no limit of what the instance has in hand
	inFlight int   // attempts of all keys
	// starved is the longest time that a key without a pause had due operations and made no
	// attempt.
	starved time.Duration
	// trickle is the pause between two attempts of a failing key while backpressure is on.
	trickle time.Duration
	holds   int // how often an operation was held
}

// site is where operations come from and where they are tried.
type site interface {
	// attempt tries an operation. done is called with the result, and reports whether that
	// was an attempt at all; then is called after a failure.
	attempt(op *operation, done func(a answer) bool, then func(a answer))
	// own returns how much of a response time may be the instance's own delay.
	own() time.Duration
	decide(p *policy.Policy, op *operation, a answer, s policy.Signals) policy.Decision
	giveUp(op *operation)
}

// key is the state of one operation type.
type key struct {
	*rebound
	service, kind string
	policy        *policy.Policy
	breaker       *breaker.Breaker
	gate          *gate.Gate
	absences      gate.Absences
	prober        gate.Prober
	turns         gate.RoundRobin
	lanes         [len(events.Priorities)]list.List // of *operation, oldest first
	held          int
	coming        int                               // due, and not yet in hand
	parked        [len(events.Priorities)]list.List // of parking, oldest first
	pumpAt        time.Time                         // next run of pump
	// waits is since when the key has due operations and made no attempt; zero when it has
	// none, or is paused.
	waits   time.Time
	refused time.Time // since when the governor allows no early release; zero when it does
}

// parking is an operation that waits until it is due.
type parking struct {
	op   *operation
	wait int
	at   time.Time
}

func newRebound(c *clock, s site, policies *policy.Set) *rebound {
	r := &rebound{clock: c, site: s, registry: health.NewRegistry(), policies: policies, keys: map[string]*key{}}
	r.breakers = breaker.NewGroup(breaker.Config{
		Instance: "simulator", Now: func() time.Time { return c.now },
		Changed: func(c breaker.Change) { r.known(c.Key).changed() },
		Freed:   func(k string) { r.known(k).wake() },
	})
	return r
}

// known returns the key with a name; it has been asked for before.
func (r *rebound) known(name string) *key { return r.keys[name] }

func (r *rebound) key(service, kind string) *key {
	name := events.Key(service, kind)
	k, ok := r.keys[name]
	if !ok {
		k = &key{rebound: r, service: service, kind: kind}
		r.keys[name] = k
		k.follow(r.policies)
	}
	return k
}

// apply puts other policies in force.
func (r *rebound) apply(policies *policy.Set) {
	r.policies = policies
	for _, name := range slices.Sorted(maps.Keys(r.keys)) {
		r.keys[name].follow(policies)
	}
}

// follow puts the key's policy in force.
func (k *key) follow(policies *policy.Set) {
	p := policies.Resolve(policy.Query{Service: k.service, Operation: k.kind})
	k.policy = &p
	k.breaker = k.breakers.Breaker(events.Key(k.service, k.kind), p.BreakerSettings())
	if k.gate == nil {
		k.gate = gate.New(p.Gate())
	}
	k.gate.Set(p.Gate())
	k.wake()
}

func (*rebound) tried(answer) {}

func (r *rebound) failed(op *operation, a answer) { r.key(op.service, op.kind).failed(op, a) }

// changed notes that the breaker has changed.
func (k *key) changed() {
	k.gate.Ready(k.conditions(events.Normal), k.now)
	k.progressed()
	k.wake()
}

// pausedUntil returns until when an operator has the key paused; ok is false if that is until
// further notice.
func (k *key) pausedUntil() (until time.Time, ok bool) {
	c := k.breaker.Circuit()
	if c.State == breaker.Open && c.Cause == breaker.CauseTripped {
		return c.NextAttemptTime, true
	}
	return time.Time{}, !c.Held
}

// progressed ends the time for which the key waited, because it makes an attempt, begins or
// ends to hold operations, or because a pause begins or ends.
func (k *key) progressed() {
	if !k.waits.IsZero() {
		k.starved = max(k.starved, k.now.Sub(k.waits))
	}
	k.waits = time.Time{}
	if until, ok := k.pausedUntil(); ok && k.held > 0 {
		k.waits = k.now
		if until.After(k.now) {
			k.waits = until
		}
	}
}

// failed decides and parks.
func (k *key) failed(op *operation, a answer) {
	figures := k.registry.Figures(k.service, k.policy.LearningWindow, k.now)
	d := k.decide(k.policy, op, a, k.policy.Signals(figures))
	if !d.Retry {
		k.giveUp(op)
		return
	}
	op.previous = d.Delay
	op.spared = k.now.Add(a.failure.RetryAfter)
	due := d.Due
	// A delay that would end while the breaker is open counts from the breaker's next attempt.
	if _, next := k.breaker.Ready(k.now); k.breaker.State() == breaker.Open && next.After(k.now) {
		due = next.Add(d.Delay)
	}
	op.due = due
	op.wait++
	wait := op.wait
	k.parked[op.priority].PushBack(parking{op, wait, k.now})
	k.at(due, func() {
		if op.wait == wait && !op.ended {
			k.due(op)
		}
	})
}

// due takes an operation in hand and sends it to its target or holds it.
func (k *key) due(op *operation) {
	op.wait++ // it is no longer parked
	k.coming++
	k.hand.take(func() {
		k.coming--
		if k.held == 0 && k.send(op) || k.awaitProbe(op) {
			return
		}
		k.hold(op)
	})
}

// awaitProbe keeps an operation in hand that is to be the breaker's next probe.
func (k *key) awaitProbe(op *operation) bool {
	_, next := k.breaker.Ready(k.now)
	if k.breaker.State() != breaker.Open || !next.After(k.now) || next.Sub(k.now) > longestAwait || op.attempts < 2 || !k.prober.Await(op) {
		return false
	}
	k.at(next, func() {
		sent := k.send(op)
		k.prober.Leave(op)
		if !sent {
			k.hold(op)
		}
		k.wake()
	})
	return true
}

// hold moves an operation in hand to its lane.
func (k *key) hold(op *operation) {
	k.hand.giveBack()
	k.lanes[op.priority].PushBack(op)
	k.gate.Note(k.waiting(), k.now)
	k.holds++
	if k.held++; k.held == 1 {
		k.progressed()
	}
	k.wake()
}

// waiting returns the lanes in which operations wait.
func (k *key) waiting() (w gate.Waiting) {
	for p := range k.lanes {
		if k.lanes[p].Len() > 0 {
			w = w.With(events.Priority(p))
		}
	}
	return w
}

// allowed returns the lanes that wait and that the reserve of the budgets does not refuse, or
// all that wait if it refuses all of them.
func (k *key) allowed() gate.Waiting {
	w := k.waiting()
	if a := w &^ k.gate.Reserved(k.now); a != 0 {
		return a
	}
	return w
}

// ready returns how many operations may be let out of the lane whose turn it is, or of normal
// ones if nothing waits.
func (k *key) ready() gate.Answer {
	p, _, _ := k.turns.Next(k.allowed())
	a := k.gate.Ready(k.conditions(p), k.now)
	a.Limit(k.absences.Bound(k.now), gate.CauseAbsent)
	return a
}

func (k *key) conditions(p events.Priority) gate.Conditions {
	c := gate.Conditions{Priority: p, Trickle: k.trickle}
	if k.policy.EnableCircuitBreaker {
		c.Breaker = gate.Bounded(k.breaker.Ready(k.now))
	}
	if k.hand != nil {
		c.Threshold = gate.Threshold(k.hand.most, k.inFlight)
	}
	return c
}

// send makes an attempt with an operation in hand if the gate allows it.
func (k *key) send(op *operation) bool {
	if _, ok := k.absences.Enter(op, k.kind, k.now); !ok {
		return false
	}
	pass, _, ok := k.gate.Enter(k.conditions(op.priority), k.now)
	if !ok {
		k.absences.Leave(op)
		return false
	}
	var permit breaker.Permit
	if k.policy.EnableCircuitBreaker {
		var err error
		if permit, err = k.breaker.Allow(context.Background(), k.now); err != nil {
			pass.Done(gate.Unused, 0, k.now)
			k.absences.Leave(op)
			return false
		}
	}
	if permit.Probe() {
		k.prober.Probes(op)
	}
	k.progressed()
	k.registry.Begin(k.service)
	k.inFlight++
	k.attempt(op, func(a answer) bool {
		k.inFlight--
		if a.absent && k.policy.NoResponders == policy.AwaitResponders {
			k.registry.End(k.service, health.Unknown, health.NoResponse, k.now)
			permit.Done(breaker.Unused, 0, k.now)
			pass.Done(gate.Unused, 0, k.now)
			k.missed(op)
			return false
		}
		k.met()
		result := resultOf(a)
		measured, response := healthOf(a, result)
		k.registry.End(k.service, measured, response, k.now)
		if permit.Probe() && result == gate.Success {
			k.prober.Succeeded()
		}
		permit.Done(result.Breaker(), a.took, k.now)
		pass.Delayed(k.own()).Done(result, a.took, k.now)
		k.hand.giveBack()
		k.wake()
		return true
	}, func(a answer) { k.failed(op, a) })
	return true
}

// healthOf returns what an answer says of the target's health, and its response time.
func healthOf(a answer, r gate.Result) (health.Result, time.Duration) {
	switch {
	case !a.failed:
		return health.Succeeded, a.took
	case r != gate.Failure:
		return health.Unknown, health.NoResponse
	}
	return health.Failed, health.NoResponse
}

// resultOf classifies an answer for the gate.
func resultOf(a answer) gate.Result {
	if !a.failed {
		return gate.Success
	}
	return a.failure.Result()
}

// setTrickle turns backpressure on or off.
func (r *rebound) setTrickle(on bool) {
	r.trickle = 0
	if on {
		r.trickle = trickleEvery
	}
	for _, name := range slices.Sorted(maps.Keys(r.keys)) {
		r.keys[name].wake()
	}
}

// missed keeps an operation whose target is absent in hand if it is the one that asks again,
// and holds it otherwise.
func (k *key) missed(op *operation) {
	next, probes := k.absences.Missed(op, k.kind, lookEvery, k.now)
	if !probes {
		k.hold(op)
		return
	}
	k.at(next, func() {
		if !k.send(op) {
			k.absences.Leave(op)
			k.hold(op)
		}
	})
}

// met ends an absence of the target, because it has answered.
func (k *key) met() {
	lasted, ended := k.absences.Met(k.kind, k.now)
	if ended && lasted > shortAbsence {
		k.gate.Recover(k.now)
	}
}

// These are as in the gates of the service.
const (
	lookEvery    = time.Second
	longestAwait = 15 * time.Second
	shortAbsence = time.Second
	trickleEvery = time.Second
	// thresholdPoll is how often the lanes ask for a key that has its share of the instance.
	thresholdPoll = 100 * time.Millisecond
)

// wake runs pump now.
func (k *key) wake() { k.wakeAt(k.now) }

func (k *key) wakeAt(t time.Time) {
	if !k.pumpAt.IsZero() && !k.pumpAt.After(t) {
		return
	}
	k.pumpAt = t
	k.at(t, func() {
		if k.pumpAt.Equal(t) {
			k.pumpAt = time.Time{}
			k.pump()
		}
	})
}

// pump releases as many operations as the gate allows: held ones first, then parked ones before
// they are due.
func (k *key) pump() {
	for k.held > 0 && !k.absent() && !k.prober.Awaits() && k.releaseOne() {
		continue
	}
	a := k.ready()
	switch {
	case k.held > 0 && a.N == 0 && a.Cause == gate.CauseThreshold:
		k.wakeAt(k.now.Add(thresholdPoll))
	case k.held > 0 && a.N == 0 && a.Next.After(k.now):
		k.wakeAt(a.Next)
	case k.held > 0 && a.N != 0:
		k.wakeAt(k.now.Add(pumpEvery)) // the instance has too much in hand
	case k.held == 0:
		k.early()
	}
}

// absent reports whether the lanes let nothing out because the target is absent.
func (k *key) absent() bool {
	b := k.absences.Bound(k.now)
	return b.Limited && b.N == 0
}

// pumpEvery is how often a key whose gate is open looks whether the instance may take more.
const pumpEvery = 20 * time.Millisecond

// releaseOne lets one held operation out if it may go.
func (k *key) releaseOne() bool {
	if !k.hand.tryTake() {
		return false
	}
	k.gate.Note(k.waiting(), k.now)
	p, turns, _ := k.turns.Next(k.allowed())
	first := k.lanes[p].Front()
	if !k.send(first.Value.(*operation)) {
		k.hand.giveBack()
		return false
	}
	k.turns = turns
	k.lanes[p].Remove(first)
	if k.held--; k.held == 0 {
		k.progressed()
	}
	return true
}

const (
	// earlySlowest and earlyPatience are as in the lanes of the service.
	earlySlowest  = time.Second
	earlyPatience = time.Minute
)

// early releases parked operations before they are due.
func (k *key) early() {
	for {
		n, before := k.gate.Early(k.conditions(events.Normal), k.held, k.coming, k.now)
		op := k.oldest(before)
		if op == nil {
			k.refused = time.Time{}
			return
		}
		k.gate.Backlog()
		if n == 0 {
			break
		}
		k.refused = time.Time{}
		k.due(op)
	}
	if a := k.ready(); a.N == 0 && a.Next.After(k.now) {
		k.wakeAt(a.Next)
		return
	}
	if k.refused.IsZero() {
		k.refused = k.now
	}
	if k.now.Sub(k.refused) < earlyPatience {
		k.wakeAt(k.now.Add(earlySlowest))
	}
}

// oldest returns the oldest operation of the highest priority that was parked before the given
// time and is not spared, nil if there is none.
func (k *key) oldest(before time.Time) *operation {
	for _, p := range events.Priorities {
		for e := k.parked[p].Front(); e != nil; e = k.parked[p].Front() {
			parked := e.Value.(parking)
			if parked.op.wait != parked.wait || parked.op.ended {
				k.parked[p].Remove(e)
				continue
			}
			if !parked.at.Before(before) {
				break
			}
			if parked.op.spared.After(k.now) {
				k.parked[p].Remove(e) // it waits until it is due
				continue
			}
			return parked.op
		}
	}
	return nil
}

// untried returns the longest time that a key without a pause had due operations and made no
// attempt, up to now.
func (r *rebound) untried() time.Duration {
	longest := r.starved
	for _, k := range r.keys {
		if !k.waits.IsZero() {
			longest = max(longest, r.now.Sub(k.waits))
		}
	}
	return longest
}
