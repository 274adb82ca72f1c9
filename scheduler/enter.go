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

// Enter asks for permission to make one attempt of op at the target subject. A shut gate
// is not an error; the error is that of ctx. At a gate that is about to open Enter waits
// its turn, for at most half a second, or longer for a lease of shared limits.
func (g *Gates) Enter(ctx context.Context, pol *policy.Policy, op *events.Operation, subject string, now time.Time) (Pass, *Shut, error) {
	if g == nil {
		return Pass{}, nil, nil
	}
	key := op.Key()
	e := entrant{
		gates: g, key: g.of(pol, key), breaker: g.breaker(pol, key), op: op, subject: subject,
		kind:    kind{op.Priority, pol.RespectGlobalBackpressure},
		entered: now, start: time.Now(), waitsFrom: now,
	}
	defer e.leave()
	e.key.arrivals.Add(1)
	for ; ; now = e.now() {
		g.want(e.key, now)
		pass, shut, err := e.ask(ctx, now)
		switch {
		case err != nil:
			return Pass{}, nil, err
		case shut == nil && !pass.stale(now, e.now()):
			e.passed = true
			return pass, nil, nil
		case shut == nil:
			// The instance was frozen, or the breaker's store was slow.
			pass.Done(gate.Unused, 0, now)
			continue
		}
		waited, err := e.wait(ctx, shut, now)
		if err != nil {
			return Pass{}, nil, err
		}
		if !waited {
			e.turnAway(shut.Cause, now)
			return Pass{}, shut, nil
		}
	}
}

// entrant is an operation that asks for permission at the gate of its key.
type entrant struct {
	gates   *Gates
	key     *keyGate
	breaker *breaker.Breaker
	op      *events.Operation
	subject string
	kind    kind
	passed  bool
	waiter  *waiter // its place in the queue, nil before it waits
	// entered is when it arrived by the caller's clock, and start the same instant by
	// the monotonic clock.
	entered, start time.Time
	// waitsFrom is when it began to wait for anything but its first lease.
	waitsFrom time.Time
}

// now returns the time by the caller's clock.
func (e *entrant) now() time.Time { return e.entered.Add(elapsed(e.start)) }

// ask asks the gate once, if it is the operation's turn, and then the breaker.
func (e *entrant) ask(ctx context.Context, now time.Time) (Pass, *Shut, error) {
	k := e.key
	if pause := e.gates.pause(k, now); pause.Limited {
		k.note(gate.CausePaused)
		return Pass{}, &Shut{Cause: gate.CausePaused, Next: pause.Next}, nil
	}
	if next, ok := e.gates.mayAsk(k, e.op, e.subject, now); !ok {
		return Pass{}, &Shut{Cause: gate.CauseAbsent, Next: next}, nil
	}
	if !k.isTurnOf(e.waiter) {
		return Pass{}, &Shut{Cause: k.cause()}, nil
	}
	place, a, ok := k.gate.Enter(e.gates.conditions(k, e.breaker, e.kind, now), now)
	if !ok {
		k.noteFor(e.op.Priority, a.Cause)
		e.gates.renew(k, a.Cause, now)
		return Pass{}, &Shut{Cause: a.Cause, Next: a.Next}, nil
	}
	return e.gates.admit(ctx, &Pass{key: k, place: place, op: e.op, subject: e.subject}, e.breaker, now)
}

// patience returns how much longer to wait at a gate shut by the cause, if longest is how
// long that may be in all.
func (e *entrant) patience(c gate.Cause, longest time.Duration, now time.Time) time.Duration {
	until, first, ok := e.key.awaitsLease(c)
	if !ok || now.Sub(e.entered) >= leasePatience {
		return longest - now.Sub(e.waitsFrom)
	}
	if first {
		e.waitsFrom = now // other causes show only once the first lease is there
	}
	return max(until.Sub(now), 0) + time.Millisecond
}

// wait waits until the gate may have opened. waited is false if the cause is not worth
// waiting for, or too many operations wait already.
func (e *entrant) wait(ctx context.Context, shut *Shut, now time.Time) (waited bool, err error) {
	longest, most := e.bounds(shut.Cause)
	left := e.patience(shut.Cause, longest, now)
	if !momentary(shut.Cause) || left <= 0 || !e.queue(most) {
		return false, nil
	}
	left = min(left, maxWait) // and then look again
	if !shut.Next.IsZero() {
		left = min(left, max(shut.Next.Sub(now), time.Millisecond))
	}
	return true, e.waiter.wait(ctx, left)
}

// bounds returns how long an operation may wait in memory at a gate shut by the cause, and how
// many may.
func (e *entrant) bounds(c gate.Cause) (longest time.Duration, most int) {
	switch {
	case e.gates.draining():
	case c == gate.CauseGovernor && e.key.gate.OnlySlow():
		return slowWait, slowWaiting
	case c == gate.CauseExposure:
		return slowWait, e.gates.exposedWaiting()
	}
	return maxWait, maxWaiting
}

// exposedWaiting returns how many operations of a key may wait until its target answers: as
// many as at a slow one, but no more than half of what the instance may have in flight.
func (g *Gates) exposedWaiting() int {
	if g.config.Capacity == nil {
		return slowWaiting
	}
	return min(slowWaiting, max(g.config.Capacity()/2, 1))
}

// queue takes a place in the queue of at most that many unless it has one. It reports
// whether it has one now.
func (e *entrant) queue(most int) bool {
	if e.waiter == nil {
		e.waiter = e.key.join(e.op.Priority, most)
	}
	return e.waiter != nil
}

// turnAway records that the operation is turned away.
func (e *entrant) turnAway(c gate.Cause, now time.Time) {
	e.gates.turnAway(e.key, c, e.subject, now)
}

// turnAway records that an operation for subject is turned away.
func (g *Gates) turnAway(k *keyGate, c gate.Cause, subject string, now time.Time) {
	shown := reported(c, k)
	began := k.turnAway(shown, now)
	paced := shown == gate.CauseGovernor || shown == gate.CauseConcurrency // which is as it should be
	if began && !paced && g.config.Shut != nil {
		g.config.Shut(k.key, shown, subject)
	}
}

// leave gives up the place in the queue, and the probe unless the operation may go, and
// releases the gate.
func (e *entrant) leave() {
	e.key.leave(e.waiter)
	if !e.passed {
		e.gates.leaveProbe(e.key, e.op)
	}
	e.key.release()
}

// Shut says that a gate is shut.
type Shut struct {
	Cause gate.Cause
	// Next is when to ask again. Zero means not before [GatesConfig.Opened] is called.
	Next time.Time
}

// Pass is the permission for one attempt. The zero value permits one that is not
// counted.
type Pass struct {
	gates   *Gates
	key     *keyGate
	place   gate.Pass
	permit  breaker.Permit
	op      *events.Operation
	subject string // of the target
}

// Done records how the attempt ended and how long it took. It must be called once,
// with [gate.Unused] if the result of the attempt is not known.
func (p Pass) Done(result gate.Result, took time.Duration, now time.Time) {
	p.ended(result, Reply{Duration: took}, "", now)
}

// Answered is [Pass.Done] with the answer of the target.
func (p Pass) Answered(r Reply, now time.Time) {
	p.ended(resultOf(r, nil), r, r.Text(), now)
}

func (p Pass) ended(result gate.Result, r Reply, text string, now time.Time) {
	p.permit.Ended(breaker.Attempt{Result: result.Breaker(), Took: r.Duration, Error: text}, now)
	p.place.Delayed(r.Own).Done(result, r.Duration, now)
	if p.gates != nil {
		if p.permit.Probe() && result == gate.Success {
			p.gates.probeSucceeded(p.key)
		}
		p.gates.inFlight.Add(-1)
		p.gates.ended(p.key, result, now)
	}
}

// Leave releases the gate for an attempt that goes on elsewhere. The breaker's permit
// stays in use until [Gates.Conclude] records how the attempt ended.
func (p Pass) Leave(now time.Time) {
	p.place.Done(gate.Unused, 0, now)
	if p.gates != nil {
		p.gates.inFlight.Add(-1)
		p.key.wake()
	}
}

// stale reports whether a pass requested at asked may not be used at now, because
// another instance may have its lease or probe by then.
func (p Pass) stale(asked, now time.Time) bool {
	return p.key.gate.Lapsed(now) || p.permit.Probe() && now.Sub(asked) > policy.ProbeSlack/2
}

// maxWait is how long an operation may wait at a gate that will open in a moment,
// before it is held.
const maxWait = 500 * time.Millisecond

// A target that has become slow and fails at nothing is slowed, and one that may be dead is
// asked before more goes, but what waits for that is not held, which takes two writes: up
// to slowWaiting operations wait in memory, for up to slowWait.
const (
	slowWait    = 10 * time.Second
	slowWaiting = 2048
)

// momentary reports whether a cause usually passes by itself within a moment.
func momentary(c gate.Cause) bool {
	return c == gate.CauseGovernor || c == gate.CauseConcurrency || c == gate.CauseExposure || c == gate.CauseBudgetShare
}

// elapsed returns how much time has passed, including any while the machine slept.
func elapsed(since time.Time) time.Duration {
	now := time.Now()
	return max(now.Sub(since), now.Round(0).Sub(since.Round(0)))
}

// admit takes the breaker's permit for an operation that has passed the gate.
func (g *Gates) admit(ctx context.Context, pass *Pass, b *breaker.Breaker, now time.Time) (Pass, *Shut, error) {
	g.inFlight.Add(1)
	pass.gates = g
	if b == nil {
		return *pass, nil, nil
	}
	permit, err := b.Allow(ctx, now)
	if err == nil {
		if permit.Probe() {
			g.probed(pass.key, pass.op)
		}
		pass.permit = permit
		return *pass, nil, nil
	}
	pass.Done(gate.Unused, 0, now)
	if errors.Is(err, breaker.ErrOpen) || errors.Is(err, breaker.ErrProbing) {
		_, next := b.Ready(now)
		return Pass{}, &Shut{Cause: gate.CauseBreaker, Next: next}, nil
	}
	return Pass{}, nil, err
}

// Conclusion is the result of an attempt whose pass was left, perhaps at another
// instance.
type Conclusion struct {
	// Ticket is the ticket of the breaker's permit.
	Ticket breaker.Ticket
	Result gate.Result
	// Took is how long the attempt took.
	Took time.Duration
	// Error is what a failure said.
	Error string
}

// Conclude counts an attempt whose pass was left. It must be called at most once for
// each attempt.
func (g *Gates) Conclude(pol *policy.Policy, key string, c Conclusion, now time.Time) {
	if g == nil {
		return
	}
	if b := g.breaker(pol, key); b != nil {
		b.Conclude(c.Ticket, breaker.Attempt{Result: c.Result.Breaker(), Took: c.Took, Error: c.Error}, now)
	}
	k := g.of(pol, key)
	defer k.release()
	k.use(now)
	if c.Ticket.Probe != "" && c.Result == gate.Success {
		g.probeSucceeded(k)
	}
	k.gate.Conclude(c.Result, c.Took, now)
	g.ended(k, c.Result, now)
}

// ended counts an attempt whose result the gate of its key knows.
func (g *Gates) ended(k *keyGate, result gate.Result, now time.Time) {
	g.tally.add(k.service, result, now)
	k.wake()
	if result == gate.Success && g.pressure.Load() {
		g.opened(k.key) // the key may fail no more
	}
}
