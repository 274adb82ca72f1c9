package scheduler

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/gate"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// Gates are the gates of all keys, as one instance knows them. The gate of a key
// says whether a due operation may go to its target now: its breaker and those of
// what it depends on, its concurrency and budgets, the governor and global
// backpressure, see package gate. A nil *Gates is open for all. It is safe for
// concurrent use.
type Gates struct {
	breakers *breaker.Group
	config   GatesConfig

	pressure  atomic.Bool
	instances atomic.Int32
	shared    atomic.Bool               // the limits are, and their store is within reach
	failing   atomic.Pointer[time.Time] // since when leases cannot be had; nil is that they can
	inFlight  atomic.Int64
	tally     tally

	mu    sync.RWMutex // guards what follows
	keys  map[string]*keyGate
	ill   index[*breaker.Breaker] // those that are not closed
	above index[*keyGate]         // those that depend on something, by what they name
}

// GatesConfig is what gates may be given. The functions are called on goroutines
// that have other work to do, several at once, so they must be quick.
type GatesConfig struct {
	// Room is called with a key that may let more through than before.
	Room func(key string)
	// Lease is called with a key that has limits and wants a lease of its share in
	// them. Nil is an instance that is alone and has the limits to itself.
	Lease func(key string)
	// Now is the clock, [time.Now] when nil. The times that are passed in are of it
	// too.
	Now func() time.Time
}

// NewGates returns gates that go by the breakers of a group. [Gates.Changed] must
// be told of the group's changes.
func NewGates(breakers *breaker.Group, config GatesConfig) *Gates {
	if config.Now == nil {
		config.Now = time.Now
	}
	g := &Gates{
		breakers: breakers, config: config, keys: make(map[string]*keyGate),
		ill: make(index[*breaker.Breaker]), above: make(index[*keyGate]),
	}
	g.instances.Store(1)
	g.shared.Store(config.Lease != nil)
	return g
}

// Shut says that a gate is shut.
type Shut struct {
	Cause gate.Cause
	// Next is when it is worth while to ask again. Zero is not before
	// [GatesConfig.Room] is called.
	Next time.Time
}

// Pass is the leave to make one attempt. The zero value is one that nobody wants
// to hear of.
type Pass struct {
	gates  *Gates
	key    *keyGate
	place  gate.Pass
	permit breaker.Permit
}

// Done tells how the attempt ended and how long it took. It must be called once,
// with [gate.Unused] when it is not known how the attempt went.
func (p Pass) Done(result gate.Result, took time.Duration, now time.Time) {
	p.permit.Done(result.Breaker(), took, now)
	p.place.Done(result, took, now)
	if p.gates != nil {
		p.gates.inFlight.Add(-1)
		p.gates.tally.add(result, now)
		p.key.wake()
	}
}

// Leave gives the place back of an attempt that goes on elsewhere. The breaker's
// permit stays in use, and [Gates.Conclude] tells how the attempt ended.
func (p Pass) Leave(now time.Time) {
	p.place.Done(gate.Unused, 0, now)
	if p.gates != nil {
		p.gates.inFlight.Add(-1)
		p.key.wake()
	}
}

// Conclude tells how an attempt ended whose pass was left, perhaps at another
// instance, and how long it took. It must be called at most once for each.
func (g *Gates) Conclude(policy *policy.Policy, key string, t breaker.Ticket, result gate.Result, took time.Duration, now time.Time) {
	if g == nil {
		return
	}
	if b := g.breaker(policy, key); b != nil {
		b.Conclude(t, result.Breaker(), took, now)
	}
	k := g.of(policy, key)
	defer k.release()
	k.use(now)
	k.gate.Conclude(result, took, now)
	g.tally.add(result, now)
	k.wake()
}

// breaker returns the breaker of a key, nil when the policy has none.
func (g *Gates) breaker(policy *policy.Policy, key string) *breaker.Breaker {
	if g == nil || !policy.EnableCircuitBreaker {
		return nil
	}
	return g.breakers.Breaker(key, policy.BreakerSettings())
}

// of returns the gate of a key, with the settings of its policy. It is not forgotten
// before [keyGate.release] is called.
func (g *Gates) of(policy *policy.Policy, key string) *keyGate {
	g.mu.RLock()
	k := g.keys[key]
	if k != nil {
		k.users.Add(1)
	}
	g.mu.RUnlock()
	if k == nil {
		g.mu.Lock()
		if k = g.keys[key]; k == nil {
			k = &keyGate{key: key, gate: gate.New(policy.Gate()), settings: policy.Gate()}
			g.keys[key] = k
		}
		k.users.Add(1)
		g.mu.Unlock()
	}
	if k.set(policy) {
		g.depend(k)
	}
	return k
}

// depend notes on what the gate of a key depends, which has changed.
func (g *Gates) depend(k *keyGate) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.above.remove(k.key, k.noted)
	k.noted = k.dependencies()
	g.above.add(k.key, k, k.noted)
}

// maxWait is how long an operation may wait at a gate that will open in a moment,
// before it is held.
const maxWait = 500 * time.Millisecond

// momentary tells causes that pass by themselves within a moment as a rule.
func momentary(c gate.Cause) bool {
	return c == gate.CauseGovernor || c == gate.CauseConcurrency || c == gate.CauseBudgetShare
}

// Enter asks for leave to make one attempt of op. A gate that is shut is no
// error; the error is that of ctx. At a gate that is about to open it waits for its
// turn, at most half a second, and longer for a lease of what instances share.
func (g *Gates) Enter(ctx context.Context, policy *policy.Policy, op *events.Operation, now time.Time) (Pass, *Shut, error) {
	if g == nil {
		return Pass{}, nil, nil
	}
	key := op.Key()
	k, b := g.of(policy, key), g.breaker(policy, key)
	defer k.release()
	k.came.Add(1)
	var w *waiter
	defer func() { k.leave(w) }()
	entered, start := now, time.Now()
	for began := entered; ; now = entered.Add(elapsed(start)) {
		g.want(k, now)
		var answer gate.Answer
		if k.first(w) {
			place, a, ok := k.gate.Enter(g.conditions(k, b, op.Priority, now), now)
			if ok {
				pass, shut, err := g.admit(ctx, k, b, place, now)
				if at := entered.Add(elapsed(start)); shut != nil || err != nil || !pass.stale(now, at) {
					return pass, shut, err
				}
				// The instance stood still, or the breaker's store took its time.
				pass.Done(gate.Unused, 0, now)
				continue
			}
			answer = a
			k.note(a.Cause)
			g.renew(k, a.Cause, now)
		} else {
			answer.Cause = k.cause()
		}
		left := maxWait - now.Sub(began)
		if until, first, ok := k.awaitsLease(answer.Cause); ok && now.Sub(entered) < leasePatience {
			left = max(until.Sub(now), 0) + time.Millisecond
			if first {
				began = now // what else may shut the gate shows only then
			}
		}
		if !momentary(answer.Cause) || left <= 0 {
			return Pass{}, &Shut{Cause: answer.Cause, Next: answer.Next}, nil
		}
		if w == nil {
			if w = k.join(op.Priority); w == nil {
				return Pass{}, &Shut{Cause: answer.Cause, Next: answer.Next}, nil
			}
		}
		if !answer.Next.IsZero() {
			left = min(left, max(answer.Next.Sub(now), time.Millisecond))
		}
		if err := w.wait(ctx, left); err != nil {
			return Pass{}, nil, err
		}
	}
}

// stale tells whether a pass that was asked for at one time may not be used at
// another, because what it rests on may be another instance's by now.
func (p Pass) stale(asked, now time.Time) bool {
	return p.key.gate.Lapsed(now) || p.permit.Probe() && now.Sub(asked) > policy.ProbeSlack/2
}

// elapsed returns how much time has passed, that in which the machine slept included.
func elapsed(since time.Time) time.Duration {
	now := time.Now()
	return max(now.Sub(since), now.Round(0).Sub(since.Round(0)))
}

// admit takes the breaker's permit for an operation that has its place.
func (g *Gates) admit(ctx context.Context, k *keyGate, b *breaker.Breaker, place gate.Pass, now time.Time) (Pass, *Shut, error) {
	g.inFlight.Add(1)
	pass := Pass{gates: g, key: k, place: place}
	if b == nil {
		return pass, nil, nil
	}
	permit, err := b.Allow(ctx, now)
	if err == nil {
		pass.permit = permit
		return pass, nil, nil
	}
	pass.Done(gate.Unused, 0, now)
	if errors.Is(err, breaker.ErrOpen) || errors.Is(err, breaker.ErrProbing) {
		_, next := b.Ready(now)
		return Pass{}, &Shut{Cause: gate.CauseBreaker, Next: next}, nil
	}
	return Pass{}, nil, err
}

// conditions are what the gate of a key is told.
func (g *Gates) conditions(k *keyGate, b *breaker.Breaker, p events.Priority, now time.Time) gate.Conditions {
	c := gate.Conditions{Priority: p, Backpressure: g.pressure.Load()}
	if b != nil {
		c.Breaker = gate.Bounded(b.Ready(now))
	}
	if names := k.dependencies(); len(names) > 0 {
		c.Dependencies = g.below(names, k.key, now)
	}
	return c
}

// below returns what the breakers let through of what a key depends on. A service
// that is named without an operation type is as ill as the worst of its keys.
func (g *Gates) below(names []string, key string, now time.Time) gate.Bound {
	g.mu.RLock()
	defer g.mu.RUnlock()
	var bound gate.Bound
	for _, name := range names {
		for ill, b := range g.ill[name] {
			if ill != key {
				bound = bound.And(gate.Bounded(b.Ready(now)))
			}
		}
	}
	return bound
}

// Changed tells the gates that a breaker has changed.
func (g *Gates) Changed(c breaker.Change) {
	b, ok := g.breakers.Lookup(c.Key)
	if !ok {
		return
	}
	names := namesOf(c.Key)
	g.mu.Lock()
	if b.State() == breaker.Closed {
		g.ill.remove(c.Key, names)
	} else {
		g.ill.add(c.Key, b, names)
	}
	own := g.keys[c.Key]
	var above []*keyGate
	for _, name := range names {
		for key, k := range g.above[name] {
			if key != c.Key {
				above = append(above, k)
			}
		}
	}
	g.mu.Unlock()
	if own != nil {
		// The governor learns of an outage and of its end from being asked.
		now := g.config.Now()
		own.gate.Ready(gate.Conditions{Breaker: gate.Bounded(b.Ready(now))}, now)
		own.wake()
	}
	for _, k := range above {
		k.wake()
		g.room(k.key)
	}
}

func (g *Gates) room(key string) {
	if g.config.Room != nil {
		g.config.Room(key)
	}
}

// lookAhead is for how long the lanes of a governed key let operations out in
// advance, so that the gate never waits for them.
const lookAhead = 100 * time.Millisecond

// Room is what the lanes of a key may let out at this instance. Every instance lets
// out what its own gate has room for.
type Room struct {
	// N is how many operations may be let out now, those included that were let out
	// and have not come yet; [breaker.Unlimited] when nothing limits them. It is 0 or
	// less when enough wait at the gate.
	N int
	// Shut is whether the gate lets none through, Cause why, and Next when it is worth
	// while to ask again, as in [Shut].
	Shut  bool
	Cause gate.Cause
	Next  time.Time
	// Came counts the operations that came to the gate, and InFlight is how many it
	// let through whose attempts have not ended.
	Came     uint64
	InFlight int
}

// Room says what the lanes of a key may let out now of operations of a priority.
// It takes nothing: only a [Pass] is certain.
func (g *Gates) Room(policy *policy.Policy, service, operation string, p events.Priority, now time.Time) Room {
	key := events.Key(service, operation)
	k, b := g.of(policy, key), g.breaker(policy, key)
	defer k.release()
	g.want(k, now)
	a := k.gate.Ready(g.conditions(k, b, p, now), now)
	report := k.gate.Report()
	r := Room{N: a.N, Cause: a.Cause, Next: a.Next, Came: k.came.Load(), InFlight: report.InFlight}
	switch {
	case a.N == breaker.Unlimited:
		return r
	case a.Cause == gate.CauseGovernor && a.N == 0 && a.Next.Sub(now) > lookAhead:
		r.Shut, r.Next = true, a.Next.Add(-lookAhead/2)
		return r
	case a.Cause == gate.CauseGovernor:
		// What is let out waits at the gate for its moment.
		r.N = max(a.N, ahead(report))
	case a.Cause == gate.CauseConcurrency && report.InFlight+a.N > 0:
		r.N = a.N + min(report.InFlight+a.N, maxWaiting/2)
	case a.N > 0:
	case a.Cause == gate.CauseBudgetShare, a.Cause == gate.CauseConcurrency:
		g.renew(k, a.Cause, now)
		if r.Next.IsZero() {
			r.Next = now.Add(gate.LeaseTime)
		}
	}
	r.Shut = r.N == 0
	r.N -= k.waiting()
	return r
}

// Early says how many parked operations of a key may be let out before they are
// due, and of which time at the latest they must be: what was parked later was not
// parked because the target was ill. coming is how many were let out and have not
// come yet. ever is whether that may be at all before the breaker closes again.
func (g *Gates) Early(policy *policy.Policy, service, operation string, coming int, now time.Time) (n int, parkedBefore time.Time, ever bool) {
	key := events.Key(service, operation)
	b := g.breaker(policy, key)
	if b == nil {
		return 0, time.Time{}, false
	}
	k := g.of(policy, key)
	defer k.release()
	g.want(k, now)
	coming += k.waiting()
	n, parkedBefore = k.gate.Early(g.conditions(k, b, events.Normal, now), 0, coming, now)
	report := k.gate.Report()
	if n > 0 && n != breaker.Unlimited {
		n = max(n, ahead(report)-coming)
	}
	return n, parkedBefore, report.Governed && !parkedBefore.IsZero()
}

// ahead is how many operations of a governed key are let out in advance.
func ahead(r gate.Report) int { return min(int(r.Rate*lookAhead.Seconds())+1, maxWaiting/2) }

// Opens is when the gate of a key that is shut can open at the earliest. It is
// zero when the gate is open or nobody knows.
func (g *Gates) Opens(policy *policy.Policy, service, operation string, now time.Time) time.Time {
	b := g.breaker(policy, events.Key(service, operation))
	if b == nil || b.State() != breaker.Open {
		return time.Time{}
	}
	_, next := b.Ready(now)
	return next
}

// Active returns how many attempts are in flight at this instance.
func (g *Gates) Active() int { return int(g.inFlight.Load()) }

// Counts returns how many attempts of the last minute succeeded and failed at this
// instance, of those that speak of their target's health.
func (g *Gates) Counts(now time.Time) (succeeded, failed int) { return g.tally.last(now) }

// KeyReport says how the gate of one key stands at this instance.
type KeyReport struct {
	// Key is service:operation.
	Key string `json:"key"`
	gate.Report
	// Cause is what limits operations of normal priority now, empty when nothing does,
	// and Shut whether it lets none through.
	Cause gate.Cause `json:"cause,omitempty"`
	Shut  bool       `json:"shut"`
}

// GateCounts counts the gates that are shut, govern the release or have operations in
// flight.
type GateCounts struct {
	All  int `json:"all"`
	Shut int `json:"shut"`
	// Causes are how many are limited by what.
	Causes map[gate.Cause]int `json:"causes"`
}

// Worst returns how up to most gates stand that are shut, govern the release or have
// operations in flight, the worst first: shut, then those with the most operations held and in
// flight. It counts all of them.
func (g *Gates) Worst(most int, now time.Time) ([]KeyReport, GateCounts) {
	counts := GateCounts{Causes: make(map[gate.Cause]int)}
	var all []Standing
	for _, s := range g.Standings(now) {
		if !s.Shut && s.InFlight == 0 && !s.Governed {
			continue // it has limits that are in nobody's way
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
	slices.SortFunc(all, func(a, b Standing) int {
		switch {
		case a.Shut && !b.Shut:
			return -1
		case b.Shut && !a.Shut:
			return 1
		}
		return cmp.Or(cmp.Compare(b.Held+b.InFlight, a.Held+a.InFlight), strings.Compare(a.Key, b.Key))
	})
	reports := make([]KeyReport, min(most, len(all)))
	for i := range reports {
		reports[i] = all[i].KeyReport
	}
	return reports, counts
}

func (g *Gates) report(k *keyGate, now time.Time) KeyReport {
	// A breaker that the policy does not use any more is closed.
	b, _ := g.breakers.Lookup(k.key)
	a := k.gate.Ready(g.conditions(k, b, events.Normal, now), now)
	// A key that was given no lease yet is shut to those who wait for it alone.
	shut := a.N == 0 && (!momentary(a.Cause) || !k.unclaimed())
	return KeyReport{Key: k.key, Report: k.gate.Report(), Cause: a.Cause, Shut: shut}
}

// Standing is how the gate of one key stands, and how many operations its lanes
// held when this instance counted them last.
type Standing struct {
	KeyReport
	Held int
}

// Standings returns, in no order, how every gate stands of which this instance
// knows.
func (g *Gates) Standings(now time.Time) []Standing {
	all := g.all()
	standings := make([]Standing, len(all))
	for i, k := range all {
		standings[i] = Standing{KeyReport: g.report(k, now), Held: k.counted()}
	}
	return standings
}

// SetPressure turns global backpressure on or off.
func (g *Gates) SetPressure(on bool) {
	if g.pressure.Swap(on) && !on {
		for _, k := range g.all() {
			k.wake()
			g.room(k.key)
		}
	}
}

// SetInstances says how many instances there are, this one included.
func (g *Gates) SetInstances(n int) { g.instances.Store(int32(max(n, 1))) }

// known returns the gate of a key, nil when there is none.
func (g *Gates) known(key string) *keyGate {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.keys[key]
}

func (g *Gates) all() []*keyGate {
	g.mu.RLock()
	defer g.mu.RUnlock()
	all := make([]*keyGate, 0, len(g.keys))
	for _, k := range g.keys {
		all = append(all, k)
	}
	return all
}

// resultOf returns what an attempt says of its target's health to a gate; err
// means that it is not known how it went.
func resultOf(reply Reply, err error) gate.Result {
	switch {
	case err != nil:
		return gate.Unused
	case !reply.Failed:
		return gate.Success
	}
	return reply.Failure.Result()
}
