package breaker

import (
	"context"
	"errors"
	"time"
)

// outcome is what an event led to.
type outcome struct {
	Reply
	asked  bool // the store was asked
	shared bool // and it answered
}

// do applies one event and waits for what comes of it: in the store when the
// breaker is joined, else, or when the store fails, here. The error is ctx's.
func (b *Breaker) do(ctx context.Context, e Event, now time.Time) (outcome, error) {
	e.By = b.group.instance
	b.mu.Lock()
	if !b.joined {
		o, n := b.doAlone(e, now)
		b.mu.Unlock()
		n.tell()
		return o, nil
	}
	b.mu.Unlock()

	select {
	case b.flow <- struct{}{}:
	case <-ctx.Done():
		return outcome{}, ctx.Err()
	}
	o, notices, err := b.doJoined(ctx, e, now)
	<-b.flow
	tellAll(notices)
	return o, err
}

// doAlone applies e to the circuit that the breaker has.
func (b *Breaker) doAlone(e Event, now time.Time) (outcome, notice) {
	b.fold()
	if e.Kind == Acquire {
		if n, next := b.ready(now); n == 0 {
			return outcome{Reply: Reply{Circuit: b.circuit.Clone(), Effect: Effect{From: b.circuit.State, Next: next}, Now: now}}, notice{}
		}
	}
	effect := b.step(e, b.group.clock(now))
	return outcome{Reply: Reply{Circuit: b.circuit.Clone(), Effect: effect, Now: now}}, b.note(effect)
}

func (b *Breaker) doJoined(ctx context.Context, e Event, now time.Time) (outcome, []notice, error) {
	if e.Kind == Acquire {
		// Whoever had the flow before may have taken the last probe.
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
			// The store may have granted the probe. It is not used.
			b.mu.Lock()
			b.returns = append(b.returns, Event{Kind: Return, By: e.By, Probe: e.Probe, Result: Unused})
			b.send(true)
			b.mu.Unlock()
		}
		return outcome{}, notices, ended
	}
	notices = append(notices, b.group.lose(err, now)...)
	notices = append(notices, b.leave(now)...)
	b.mu.Lock()
	defer b.mu.Unlock()
	o, n := b.doAlone(e, now)
	o.asked = true
	if e.Kind == Acquire && !o.Granted {
		b.returned = append(b.returned, e.Probe)
	}
	return o, append(notices, n), nil
}

// ended returns the error of a ctx that has ended. A connection that has the
// deadline of ctx may fail the moment before ctx itself does.
func ended(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if d, ok := ctx.Deadline(); ok && time.Until(d) < time.Millisecond {
		return context.DeadlineExceeded
	}
	return nil
}

// errLost is the error of a store that says that it has lost what it was given
// the moment before.
var errLost = errors.New("breaker: the store has lost the circuit again")

// apply sends one event to the store and takes over what became of the circuit.
// The caller has the flow.
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
	// patience is how long a store may take to answer before the instance goes on
	// alone: longer than a stream takes whose leader steps down.
	patience = 2 * time.Second
	// probesAlone is how long an instance that goes on alone lets no probe through.
	// It takes longer than most probes that others have in flight, and than most
	// stores to come back.
	probesAlone = 2 * time.Second
)

func (b *Breaker) call(ctx context.Context, e Event, now time.Time) (Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	e.Idle = b.group.config.Forget
	return b.group.store.Apply(ctx, b.key, e, b.group.clock(now), *b.settings.Load())
}

// adopt takes over the store's circuit, unless a later one has been seen, and
// makes the notice of what this instance changed.
func (b *Breaker) adopt(r Reply) notice {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.joined && r.Circuit.Version > b.circuit.Version && !b.knowsMore(&r.Circuit) {
		b.become(r.Circuit.Clone())
	}
	if !r.Changed && b.joined && b.circuit.Generation != b.told.generation {
		return b.noteSeen()
	}
	return b.noteOwn(&r.Circuit, r.Effect)
}

// see takes over a circuit that the store tells of.
func (b *Breaker) see(c Circuit) notice {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.joined {
		b.ahead = &c
		return notice{}
	}
	switch {
	case c.Version <= b.circuit.Version:
		return notice{}
	case b.knowsMore(&c):
		signal(b.group.share.resync)
		return notice{}
	}
	b.used.Store(time.Now().UnixNano())
	b.become(c)
	if c.ChangedBy == b.group.instance && c.Generation != b.told.generation {
		return notice{} // the reply to our own event tells of it
	}
	return b.noteSeen()
}

// flush sends what waits.
func (b *Breaker) flush(ctx context.Context, now time.Time) {
	b.flow <- struct{}{}
	notices := b.flushFlow(ctx, now)
	<-b.flow
	tellAll(notices)
}

func (b *Breaker) flushFlow(ctx context.Context, now time.Time) []notice {
	b.mu.Lock()
	b.queued = idle
	if !b.joined {
		b.mu.Unlock() // what waited was taken in when the store was lost
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
		notices = append(notices, b.leave(now)...)
		b.mu.Lock()
		for _, e := range events[i:] {
			notices = append(notices, b.alone(e, true, b.group.clock(now)))
		}
		b.mu.Unlock()
		break
	}
	return notices
}

// alone applies a Report or a Return while the breaker is not joined, and keeps
// what the store must hear of it later. asked says that the store may know of the
// probe that a Return is about.
func (b *Breaker) alone(e Event, asked bool, now time.Time) notice {
	n := b.note(b.fold())
	if b.group.store != nil {
		t := e.Tally
		if e.Kind == Return {
			t.Add(e.Result, e.Took, true)
			if asked {
				b.returned = append(b.returned, e.Probe)
			}
		}
		b.owed.Merge(t.late())
	}
	m := b.note(b.step(e, now))
	m.room = m.room || n.room
	return m
}

// leave makes the breaker go on alone.
func (b *Breaker) leave(now time.Time) []notice {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.joined {
		return nil
	}
	b.joined, b.bucketEnd, b.ahead, b.left = false, 0, nil, now
	at := b.group.clock(now)
	notices := []notice{b.note(b.foldAt(at))}
	for _, e := range b.returns {
		notices = append(notices, b.alone(e, true, at))
	}
	b.returns = nil
	return notices
}

// rejoin brings the breaker and the store together again; stored is what the
// store holds, nil when it holds nothing or an older circuit. The caller has the
// flow.
func (b *Breaker) rejoin(ctx context.Context, stored *Circuit, now time.Time) ([]notice, error) {
	b.mu.Lock()
	if !b.joined {
		b.fold()
	}
	if b.inStep(stored) {
		defer b.mu.Unlock()
		return []notice{b.join(stored)}, nil
	}
	b.mu.Unlock()
	var notices []notice
	// What happens here while the event is on its way is sent in another.
	for range 3 {
		r, err := b.sendCircuit(ctx, now)
		if err != nil {
			return notices, err
		}
		b.mu.Lock()
		again := b.diverged
		if !again {
			notices = append(notices, b.noteOwn(&r.Circuit, r.Effect), b.join(&r.Circuit))
		}
		b.mu.Unlock()
		if !again {
			return notices, nil
		}
	}
	return notices, errBusy
}

// errBusy is the error of a breaker that changes faster than it can tell.
var errBusy = errors.New("breaker: the circuit changes faster than the store answers")

// inStep reports whether the breaker has nothing that the store lacks but totals,
// which follow in their own time: after a moment without the store thousands of
// breakers may have some.
func (b *Breaker) inStep(stored *Circuit) bool {
	if b.diverged || len(b.returned) > 0 {
		return false
	}
	if stored == nil {
		return b.circuit.Version == 0
	}
	return !b.knowsMore(stored)
}

// knowsMore reports whether the circuit is later than one that the store holds, which
// has lost what it held then. Of two circuits the one with the later generation is the
// later one, whatever their versions.
func (b *Breaker) knowsMore(stored *Circuit) bool {
	return b.circuit.Version > stored.Version || b.circuit.Version > 0 && b.circuit.Generation > stored.Generation
}

// join makes c, which is the store's, the circuit; nil leaves it as it is.
func (b *Breaker) join(c *Circuit) notice {
	if a := b.ahead; a != nil && (c == nil || a.Version > c.Version) {
		c = a
	}
	b.joined, b.diverged, b.ahead = true, false, nil
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

// catchUp queues what happened while the store answered, like anything else.
func (b *Breaker) catchUp() {
	b.tally.Merge(b.owed)
	for _, probe := range b.returned {
		b.returns = append(b.returns, Event{Kind: Return, By: b.group.instance, Probe: probe, Result: Unused})
	}
	b.owed, b.returned = Tally{}, nil
	if !b.tally.empty() || len(b.returns) > 0 {
		b.send(len(b.returns) > 0)
	}
}

// sendCircuit sends a Rejoin with all that happened while the breaker was alone.
func (b *Breaker) sendCircuit(ctx context.Context, now time.Time) (Reply, error) {
	b.mu.Lock()
	if !b.joined {
		b.fold()
	}
	c := b.circuit.Clone()
	before := b.parted
	b.owed, b.returned, b.diverged = Tally{}, nil, false
	b.mu.Unlock()
	e := Event{
		Kind: Rejoin, By: b.group.instance, Circuit: &c,
		Tally: before.owed, Returned: before.returned, Diverged: before.diverged,
	}
	r, err := b.call(ctx, e, now)
	if err != nil {
		b.mu.Lock()
		b.owed.Merge(before.owed)
		b.returned = append(before.returned, b.returned...)
		b.diverged = b.diverged || before.diverged
		b.mu.Unlock()
	}
	return r, err
}

func tellAll(notices []notice) {
	for _, n := range notices {
		n.tell()
	}
}
