package breaker

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Breaker is one key's breaker at one instance. It is safe for concurrent use.
type Breaker struct {
	group    *Group
	key      string
	settings atomic.Pointer[Settings]

	// word packs the circuit's generation and state, so that a closed breaker is passed without a
	// lock. It is written under mu.
	word atomic.Uint64

	// used is the time of the last attempt or news from another instance, in Unix nanoseconds and
	// at most useGrain too early.
	used atomic.Int64

	// flow is a lock of size 1, held while an event is on its way to the store, so that the
	// events of one instance arrive in order.
	flow chan struct{}

	mu        sync.Mutex // guards the fields below
	circuit   Circuit    // the store's as last heard, or this instance's own while detached
	tally     Tally      // results not yet in the circuit
	bucketEnd int64      // end of tally's bucket while detached, in Unix nanoseconds on the store's clock
	attached  bool       // circuit is the store's
	detached
	queue

	lastNotified notified // as of the last notification
}

// detached is what a breaker keeps for the store while it is without it.
type detached struct {
	since      time.Time // when it was detached, on the local clock
	diverged   bool      // the circuit decides differently from the store's
	unreported Tally     // totals that the store lacks
	returned   []string  // probes granted by the store that have ended
	missed     *Circuit  // circuit that the store sent meanwhile
}

// queue holds what is waiting to be sent.
type queue struct {
	queued  urgency
	returns []Event // results of probes
}

const stateBits = 2

func newBreaker(g *Group, key string) *Breaker {
	b := &Breaker{group: g, key: key, flow: make(chan struct{}, 1)}
	b.settings.Store(new(Settings{}.OrDefaults()))
	b.attached = g.share.on()
	b.used.Store(time.Now().UnixNano())
	b.become(NewCircuit(key))
	b.lastNotified = fieldsOf(&b.circuit)
	return b
}

// set puts new settings in force, from the next result on.
func (b *Breaker) set(s Settings) {
	if s = s.OrDefaults(); *b.settings.Load() != s {
		changed := s // allocated only then
		b.settings.Store(&changed)
	}
}

// Key returns the breaker's key.
func (b *Breaker) Key() string { return b.key }

// State returns the state as this instance knows it.
func (b *Breaker) State() State { return State(b.word.Load() & (1<<stateBits - 1)) }

// Allow returns a permit for one attempt; call [Permit.Done] when the attempt has ended. The
// error is [ErrOpen], [ErrProbing] or that of ctx. Allow waits for the store only if the breaker
// is not closed, about two seconds at most.
func (b *Breaker) Allow(ctx context.Context, now time.Time) (Permit, error) {
	b.use(now)
	word := b.word.Load()
	if State(word&(1<<stateBits-1)) == Closed {
		return Permit{breaker: b, generation: word >> stateBits}, nil
	}
	return b.ask(ctx, now)
}

// Ready returns how many attempts may go now, [Unlimited] if the breaker is closed. If n is 0,
// next is when to ask again; a zero next means when Config.Freed is called. Ready neither asks
// the store nor takes a permit, so that [Breaker.Allow] may still refuse.
func (b *Breaker) Ready(now time.Time) (n int, next time.Time) {
	if b.State() == Closed {
		return Unlimited, time.Time{}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	n, next = b.ready(now)
	return n, b.group.local(next)
}

// ready is [Breaker.Ready] with b.mu held; next is on the store's clock. A detached breaker makes
// one probe at a time, and none during the first probesAlone, because other instances may have
// probes in flight.
func (b *Breaker) ready(now time.Time) (n int, next time.Time) {
	s := b.settings.Load()
	at := b.group.clock(now)
	if b.attached || b.group.store == nil || b.circuit.State == Closed {
		return b.circuit.Ready(at, s)
	}
	one := *s
	one.HalfOpenMaxRequests = 1
	n, next = b.circuit.Ready(at, &one)
	if begins := b.group.clock(b.since.Add(probesAlone)); n > 0 && at.Before(begins) {
		return 0, begins
	}
	return n, next
}

// Forced reports whether an operator opened the breaker and it has not closed since.
func (b *Breaker) Forced() bool {
	if b.State() == Closed {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.circuit.Forced()
}

// Circuit returns the circuit as this instance knows it, with times on the store's clock.
func (b *Breaker) Circuit() Circuit {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.attached {
		b.fold()
	}
	return b.circuit.Clone()
}

func (b *Breaker) ask(ctx context.Context, now time.Time) (Permit, error) {
	if err := b.refusal(now); err != nil {
		return Permit{}, err
	}
	id := b.group.instance + "." + strconv.FormatUint(b.group.probes.Add(1), 36)
	r, err := b.do(ctx, Event{Kind: Acquire, Probe: id}, now)
	switch {
	case err != nil:
		return Permit{}, err
	case r.Granted:
		p := Permit{breaker: b, generation: r.Circuit.Generation}
		if r.Probe != "" {
			p.probe = &probe{id: r.Probe, asked: r.asked}
		}
		return p, nil
	case r.Circuit.State == HalfOpen:
		return Permit{}, ErrProbing
	default:
		return Permit{}, ErrOpen
	}
}

// refusal returns the error of an attempt that need not ask the store to be refused, else nil.
func (b *Breaker) refusal(now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n, _ := b.ready(now); n > 0 {
		return nil
	}
	if b.circuit.State == HalfOpen {
		return ErrProbing
	}
	return ErrOpen
}

// useGrain is how exactly it is known when a breaker was last used.
const useGrain = time.Second

// use records an attempt or news at now. Most calls only read, because a write takes the memory
// away from the other processors.
func (b *Breaker) use(now time.Time) {
	at := now.UnixNano()
	if since := at - b.used.Load(); since >= int64(useGrain) || since < 0 {
		b.used.Store(at)
	}
}

// become replaces the circuit by one that shares nothing with others, because results are added to
// it in place.
func (b *Breaker) become(c Circuit) {
	before := b.circuit.Generation
	b.circuit = c
	b.heed(before)
}

// heed makes attempts and results go by the circuit, whose generation was before.
func (b *Breaker) heed(before uint64) {
	if b.circuit.Generation != before {
		b.tally = b.tally.late()
	}
	b.word.Store(b.circuit.Generation<<stateBits | uint64(b.circuit.State))
}

// step applies an event to the circuit of a detached breaker. The tally must be folded in
// already.
func (b *Breaker) step(e Event, now time.Time) Effect {
	before := b.circuit.stance()
	c, effect := Step(b.circuit, e, now, *b.settings.Load())
	b.circuit = c
	b.stepped(before)
	return effect
}

// stepped follows a change of a detached breaker's circuit, which had a stance before.
func (b *Breaker) stepped(before stance) {
	if b.circuit.stance() != before {
		b.diverged = true
		b.heed(before.generation)
	}
}

// fold adds the tally to the circuit, at the end of the tally's bucket.
func (b *Breaker) fold() notice {
	return b.foldAt(time.Unix(0, b.bucketEnd-1))
}

func (b *Breaker) foldAt(now time.Time) notice {
	if b.tally.empty() {
		return notice{}
	}
	b.report(&b.tally)
	failures, s := b.circuit.FailureCount, b.settings.Load()
	cause := b.circuit.add(&b.tally, now, s)
	b.tally = Tally{}
	if cause == "" { // results that open nothing change no more than the run of failures
		b.diverged = b.diverged || b.circuit.FailureCount != failures
		return notice{}
	}
	before := b.circuit.stance()
	effect := b.circuit.openInPlace(cause, b.group.instance, now, s)
	b.stepped(before)
	return b.note(effect)
}

// report keeps totals for the store, if there is one.
func (b *Breaker) report(t *Tally) {
	if b.group.store != nil {
		b.unreported.Merge(t.late())
	}
}
