package scheduler

import (
	"context"
	"errors"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/gate"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

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

// stale tells whether a pass that was asked for at one time may not be used at
// another, because what it rests on may be another instance's by now.
func (p Pass) stale(asked, now time.Time) bool {
	return p.key.gate.Lapsed(now) || p.permit.Probe() && now.Sub(asked) > policy.ProbeSlack/2
}

// maxWait is how long an operation may wait at a gate that will open in a moment,
// before it is held.
const maxWait = 500 * time.Millisecond

// momentary tells causes that pass by themselves within a moment as a rule.
func momentary(c gate.Cause) bool {
	return c == gate.CauseGovernor || c == gate.CauseConcurrency || c == gate.CauseBudgetShare
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
