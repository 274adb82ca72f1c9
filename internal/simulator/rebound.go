package simulator

import (
	"container/list"
	"context"
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
	*world
	policy   *policy.Policy
	registry *health.Registry
	breakers *breaker.Group
	keys     map[string]*key
}

// key is the state of one operation type.
type key struct {
	*rebound
	breaker *breaker.Breaker
	gate    *gate.Gate
	turns   gate.RoundRobin
	lanes   [len(events.Priorities)]list.List // of *operation, oldest first
	held    int
	parked  [len(events.Priorities)]list.List // of parking, oldest first
	pumpAt  time.Time                         // next run of pump
}

// parking is an operation that waits until it is due.
type parking struct {
	op   *operation
	wait int
	at   time.Time
}

func newRebound(w *world) *rebound {
	p := policy.Builtin().Resolve(policy.Query{Service: service})
	r := &rebound{world: w, policy: &p, registry: health.NewRegistry(), keys: map[string]*key{}}
	r.breakers = breaker.NewGroup(breaker.Config{
		Instance: "simulator",
		Changed:  func(c breaker.Change) { r.key(c.Key).wake() },
		Freed:    func(k string) { r.key(k).wake() },
	})
	return r
}

func (r *rebound) key(name string) *key {
	k, ok := r.keys[name]
	if !ok {
		p := r.policy
		k = &key{rebound: r, gate: gate.New(p.Gate()), breaker: r.breakers.Breaker(name, p.BreakerSettings())}
		r.keys[name] = k
	}
	return k
}

func (*rebound) tried(answer) {}

func (r *rebound) failed(op *operation, a answer) {
	r.key(service+":"+op.kind).failed(op, a)
}

// failed decides and parks.
func (k *key) failed(op *operation, a answer) {
	figures := k.registry.Figures(service, k.policy.LearningWindow, k.now)
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
	op.wait++
	wait := op.wait
	k.parked[op.priority].PushBack(parking{op, wait, k.now})
	k.at(due, func() {
		if op.wait == wait && !op.ended {
			k.due(op)
		}
	})
}

// due sends an operation to its target or holds it.
func (k *key) due(op *operation) {
	op.wait++ // it is no longer parked
	if k.held == 0 && k.send(op) {
		return
	}
	k.lanes[op.priority].PushBack(op)
	k.held++
	k.wake()
}

func (k *key) conditions(p events.Priority) gate.Conditions {
	return gate.Conditions{Breaker: gate.Bounded(k.breaker.Ready(k.now)), Priority: p}
}

// send makes an attempt if the gate allows it.
func (k *key) send(op *operation) bool {
	pass, _, ok := k.gate.Enter(k.conditions(op.priority), k.now)
	if !ok {
		return false
	}
	permit, err := k.breaker.Allow(context.Background(), k.now)
	if err != nil {
		pass.Done(gate.Unused, 0, k.now)
		return false
	}
	k.registry.Begin(service)
	k.attempt(op, func(a answer) {
		result, measured, response := gate.Success, health.Succeeded, a.took
		if a.failed {
			result, measured, response = a.failure.Result(), health.Failed, health.NoResponse
			if result != gate.Failure {
				measured = health.Unknown
			}
		}
		k.registry.End(service, measured, response, k.now)
		permit.Done(result.Breaker(), a.took, k.now)
		pass.Done(result, a.took, k.now)
		k.wake()
	}, func(a answer) { k.failed(op, a) })
	return true
}

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
	for k.held > 0 {
		var w gate.Waiting
		for p := range k.lanes {
			if k.lanes[p].Len() > 0 {
				w = w.With(events.Priority(p))
			}
		}
		p, turns, _ := k.turns.Next(w)
		first := k.lanes[p].Front()
		if !k.send(first.Value.(*operation)) {
			break
		}
		k.turns = turns
		k.lanes[p].Remove(first)
		k.held--
	}
	a := k.gate.Ready(k.conditions(events.Normal), k.now)
	if k.held > 0 {
		if a.N == 0 && a.Next.After(k.now) {
			k.wakeAt(a.Next)
		}
		return
	}
	k.early()
}

// early releases parked operations before they are due.
func (k *key) early() {
	for {
		n, before := k.gate.Early(k.conditions(events.Normal), k.held, 0, k.now)
		op := k.oldest(before)
		if op == nil {
			return
		}
		if n == 0 {
			break
		}
		k.due(op)
	}
	if a := k.gate.Ready(k.conditions(events.Normal), k.now); a.N == 0 && a.Next.After(k.now) {
		k.wakeAt(a.Next)
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
