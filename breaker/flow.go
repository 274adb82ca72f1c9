package breaker

import (
	"context"
	"errors"
	"time"
)

// outcome is the result of an event.
type outcome struct {
	Reply
	asked  bool // the event was sent to the store
	shared bool // the store answered
}

// do applies one event and returns its result: in the store if the breaker is attached, and
// locally if it is not or if the store fails. The error is ctx's.
func (b *Breaker) do(ctx context.Context, e Event, now time.Time) (outcome, error) {
	e.By = b.group.instance
	b.mu.Lock()
	if !b.attached {
		o, n := b.doDetached(e, now)
		b.mu.Unlock()
		n.deliver()
		return o, nil
	}
	b.mu.Unlock()

	select {
	case b.flow <- struct{}{}:
	case <-ctx.Done():
		return outcome{}, ctx.Err()
	}
	o, notices, err := b.doAttached(ctx, e, now)
	<-b.flow
	deliverAll(notices)
	return o, err
}

// doDetached applies e to the local circuit.
func (b *Breaker) doDetached(e Event, now time.Time) (outcome, notice) {
	b.fold()
	if e.Kind == Acquire {
		if n, next := b.ready(now); n == 0 {
			return outcome{Reply: Reply{Circuit: b.circuit.Clone(), Effect: Effect{From: b.circuit.State, Next: next}, Now: now}}, notice{}
		}
	}
	effect := b.step(e, b.group.clock(now))
	return outcome{Reply: Reply{Circuit: b.circuit.Clone(), Effect: effect, Now: now}}, b.note(effect)
}

func (b *Breaker) doAttached(ctx context.Context, e Event, now time.Time) (outcome, []notice, error) {
	if e.Kind == Acquire {
		// The previous holder of the flow may have taken the last probe.
		if err := b.refusal(now); err != nil {
			b.mu.Lock()
			defer b.mu.Unlock()
			return outcome{Reply: Reply{Circuit: b.circuit.Clone()}, asked: true, shared: true}, nil, nil
		}
	}
	r, notices, err := b.apply(ctx, e, now)
	if err == nil {
		return outcome{Reply: r, asked: true, shared: true}, notices, nil
	}
	if ended := ended(ctx); ended != nil {
		if e.Kind == Acquire {
			// The store may have granted the probe; give it back.
			b.mu.Lock()
			b.returns = append(b.returns, Event{Kind: Return, By: e.By, Probe: e.Probe, Result: Unused})
			b.send(true)
			b.mu.Unlock()
		}
		return outcome{}, notices, ended
	}
	notices = append(notices, b.group.lose(err, now)...)
	notices = append(notices, b.detach(now)...)
	b.mu.Lock()
	defer b.mu.Unlock()
	o, n := b.doDetached(e, now)
	o.asked = true
	if e.Kind == Acquire && !o.Granted {
		b.returned = append(b.returned, e.Probe)
	}
	return o, append(notices, n), nil
}

// ended returns the error of a ctx that has ended. It allows for a connection that shares ctx's
// deadline and fails a moment before ctx does.
func ended(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if d, ok := ctx.Deadline(); ok && time.Until(d) < time.Millisecond {
		return context.DeadlineExceeded
	}
	return nil
}

// errLost means that the store lost the circuit again, right after receiving it.
var errLost = errors.New("breaker: the store has lost the circuit again")

// apply sends one event to the store and adopts the resulting circuit. The caller holds the flow.
func (b *Breaker) apply(ctx context.Context, e Event, now time.Time) (Reply, []notice, error) {
	var notices []notice
	for range 2 {
		b.mu.Lock()
		e.Seen, e.SeenGeneration = b.circuit.Version, b.circuit.Generation
		b.mu.Unlock()
		r, err := b.call(ctx, e, now)
		if err != nil {
			return Reply{}, notices, err
		}
		if !r.Lost {
			return r, append(notices, b.adopt(r)), nil
		}
		ns, err := b.rejoin(ctx, nil, now)
		notices = append(notices, ns...)
		if err != nil {
			return Reply{}, notices, err
		}
	}
	return Reply{}, notices, errLost
}

const (
	// storeTimeout bounds the wait for the store, after which the instance goes on alone. It exceeds
	// the time that a stream takes to change its leader.
	storeTimeout = 2 * time.Second
	// probesAlone is how long an instance that goes on alone gives out no probe. It exceeds the
	// duration of most probes of other instances, and of most outages of a store.
	probesAlone = 2 * time.Second
)

func (b *Breaker) call(ctx context.Context, e Event, now time.Time) (Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	e.Idle = b.group.config.Forget
	return b.group.store.Apply(ctx, b.key, e, b.group.clock(now), *b.settings.Load())
}

// adopt takes over the store's circuit, unless it has already seen a later one, and returns the
// notice of what this instance changed.
func (b *Breaker) adopt(r Reply) notice {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.attached && r.Circuit.Version > b.circuit.Version && !b.knowsMore(&r.Circuit) {
		b.become(r.Circuit.Clone())
	}
	if !r.Changed && b.attached && b.circuit.Generation != b.lastNotified.generation {
		return b.noteSeen()
	}
	return b.noteOwn(&r.Circuit, r.Effect)
}

// see takes over a circuit sent by the store.
func (b *Breaker) see(c Circuit) notice {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.attached {
		b.missed = &c
		return notice{}
	}
	switch {
	case c.Version <= b.circuit.Version:
		return notice{}
	case b.knowsMore(&c):
		b.group.share.resync.Set()
		return notice{}
	}
	b.use(time.Now())
	b.become(c.Clone())
	if c.ChangedBy == b.group.instance && c.Generation != b.lastNotified.generation {
		return notice{} // the reply to our own event will make the notice
	}
	return b.noteSeen()
}

// flush sends what is waiting.
func (b *Breaker) flush(ctx context.Context, now time.Time) {
	b.flow <- struct{}{}
	notices := b.flushFlow(ctx, now)
	<-b.flow
	deliverAll(notices)
}

func (b *Breaker) flushFlow(ctx context.Context, now time.Time) []notice {
	b.mu.Lock()
	b.queued = idle
	if !b.attached {
		b.mu.Unlock() // what was waiting was folded in by detach
		return nil
	}
	t, events := b.tally, b.returns
	b.tally, b.returns = Tally{}, nil
	if !t.empty() {
		report := Event{Kind: Report, By: b.group.instance, Generation: b.circuit.Generation, Tally: t}
		events = append([]Event{report}, events...)
	}
	b.mu.Unlock()

	var notices []notice
	for i, e := range events {
		_, ns, err := b.apply(ctx, e, now)
		notices = append(notices, ns...)
		if err == nil {
			continue
		}
		notices = append(notices, b.group.lose(err, now)...)
		notices = append(notices, b.detach(now)...)
		b.mu.Lock()
		for _, e := range events[i:] {
			notices = append(notices, b.applyDetached(e, true, b.group.clock(now)))
		}
		b.mu.Unlock()
		break
	}
	return notices
}

// applyDetached applies a Report or a Return while the breaker is detached, and keeps what the
// store must learn later. asked reports whether the store may know of a Return's probe.
func (b *Breaker) applyDetached(e Event, asked bool, now time.Time) notice {
	n := b.fold()
	if b.group.store != nil {
		t := e.Tally
		if e.Kind == Return {
			t.Add(e.Attempt(), true)
			if asked {
				b.returned = append(b.returned, e.Probe)
			}
		}
		b.unreported.Merge(t.late())
	}
	m := b.note(b.step(e, now))
	m.freed = m.freed || n.freed
	return m
}

// detach makes the breaker go on without the store.
func (b *Breaker) detach(now time.Time) []notice {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.attached {
		return nil
	}
	b.attached, b.bucketEnd, b.missed, b.since = false, 0, nil, now
	at := b.group.clock(now)
	notices := []notice{b.foldAt(at)}
	for _, e := range b.returns {
		notices = append(notices, b.applyDetached(e, true, at))
	}
	b.returns = nil
	return notices
}

// rejoin reunites the breaker with the store; stored is the store's circuit, nil if it has none
// or an older one. The caller holds the flow.
func (b *Breaker) rejoin(ctx context.Context, stored *Circuit, now time.Time) ([]notice, error) {
	b.mu.Lock()
	if !b.attached {
		b.fold()
	}
	if b.inStep(stored) {
		defer b.mu.Unlock()
		return []notice{b.attach(stored)}, nil
	}
	b.mu.Unlock()
	var notices []notice
	// What happens here while the event is on its way takes another event.
	for range 3 {
		r, err := b.sendCircuit(ctx, now)
		if err != nil {
			return notices, err
		}
		b.mu.Lock()
		again := b.diverged
		if !again {
			notices = append(notices, b.noteOwn(&r.Circuit, r.Effect), b.attach(&r.Circuit))
		}
		b.mu.Unlock()
		if !again {
			return notices, nil
		}
	}
	return notices, errBusy
}

// errBusy means that the breaker changes faster than it can send.
var errBusy = errors.New("breaker: the circuit changes faster than the store answers")

// inStep reports whether the store lacks nothing but totals. Those are sent later: after a short
// outage of the store, thousands of breakers may have some.
func (b *Breaker) inStep(stored *Circuit) bool {
	if b.diverged || len(b.returned) > 0 {
		return false
	}
	if stored == nil {
		return b.circuit.Version == 0
	}
	return !b.knowsMore(stored)
}

// knowsMore reports whether the local circuit is later than the store's, which means that the
// store lost data. A later generation decides, whatever the versions.
func (b *Breaker) knowsMore(stored *Circuit) bool {
	return b.circuit.Version > stored.Version || b.circuit.Version > 0 && b.circuit.Generation > stored.Generation
}

// attach takes over c, the store's circuit; nil keeps the local one.
func (b *Breaker) attach(c *Circuit) notice {
	if a := b.missed; a != nil && (c == nil || a.Version > c.Version) {
		c = a
	}
	b.attached, b.diverged, b.missed = true, false, nil
	defer b.catchUp()
	if c == nil || c.Version <= b.circuit.Version && c.Generation == b.circuit.Generation && c.State == b.circuit.State {
		if c != nil {
			b.become(c.Clone())
		}
		return notice{}
	}
	b.become(c.Clone())
	return b.noteSeen()
}

// catchUp queues what happened while the store was answering.
func (b *Breaker) catchUp() {
	b.tally.Merge(b.unreported)
	for _, probe := range b.returned {
		b.returns = append(b.returns, Event{Kind: Return, By: b.group.instance, Probe: probe, Result: Unused})
	}
	b.unreported, b.returned = Tally{}, nil
	if !b.tally.empty() || len(b.returns) > 0 {
		b.send(len(b.returns) > 0)
	}
}

// sendCircuit sends a Rejoin with everything that happened while the breaker was detached.
func (b *Breaker) sendCircuit(ctx context.Context, now time.Time) (Reply, error) {
	b.mu.Lock()
	if !b.attached {
		b.fold()
	}
	c := b.circuit.Clone()
	before := b.detached
	b.unreported, b.returned, b.diverged = Tally{}, nil, false
	b.mu.Unlock()
	e := Event{
		Kind: Rejoin, By: b.group.instance, Circuit: &c,
		Tally: before.unreported, Returned: before.returned, Diverged: before.diverged,
	}
	r, err := b.call(ctx, e, now)
	if err != nil {
		b.mu.Lock()
		b.unreported.Merge(before.unreported)
		b.returned = append(before.returned, b.returned...)
		b.diverged = b.diverged || before.diverged
		b.mu.Unlock()
	}
	return r, err
}

func deliverAll(notices []notice) {
	for _, n := range notices {
		n.deliver()
	}
}
