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

	// word is the circuit's generation and state, packed, so that a closed
	// breaker is passed without a lock. It is written under mu.
	word atomic.Uint64

	// used is when an attempt or news of another instance came last, Unix nanoseconds.
	used atomic.Int64

	// flow holds a token while an event is on its way to the store, so that those
	// of one instance arrive in the order in which they happened.
	flow chan struct{}

	mu        sync.Mutex // guards what follows
	circuit   Circuit    // as last heard of the store, or our own while alone
	tally     Tally      // results that are not yet in the circuit
	bucketEnd int64      // where tally's bucket ends while alone, Unix nanoseconds of the store's clock
	told      told       // what was last told as a change
	joined    bool       // the circuit is the store's
	parted
	queue
}

// parted is what an instance keeps for its return while it is without the store.
type parted struct {
	left     time.Time // since when it is without, by our clock
	diverged bool      // the circuit decides otherwise than the store's did
	owed     Tally     // totals that the store has not heard of
	returned []string  // the store's probes that came back
	ahead    *Circuit  // what the store told of meanwhile
}

// queue is what waits to be sent.
type queue struct {
	queued  urgency
	returns []Event // how probes ended
}

const stateBits = 2

func newBreaker(g *Group, key string) *Breaker {
	b := &Breaker{group: g, key: key, flow: make(chan struct{}, 1)}
	b.settings.Store(new(Settings{}.OrDefaults()))
	b.joined = g.share.on()
	b.used.Store(time.Now().UnixNano())
	b.become(NewCircuit(key))
	b.told = tell(&b.circuit)
	return b
}

// set puts new settings in force. They decide from the next result on.
func (b *Breaker) set(s Settings) {
	s = s.OrDefaults()
	if *b.settings.Load() != s {
		b.settings.Store(&s)
	}
}

// Key returns the breaker's key.
func (b *Breaker) Key() string { return b.key }

// State returns the state, as far as this instance knows.
func (b *Breaker) State() State { return State(b.word.Load() & (1<<stateBits - 1)) }

// Allow gives a permit for one attempt, which must be told how it ended by
// [Permit.Done]. The error is [ErrOpen], [ErrProbing] or that of ctx. Only a
// breaker that is not closed may wait for its store, at most two seconds.
func (b *Breaker) Allow(ctx context.Context, now time.Time) (Permit, error) {
	b.used.Store(now.UnixNano())
	word := b.word.Load()
	if State(word&(1<<stateBits-1)) == Closed {
		return Permit{breaker: b, generation: word >> stateBits}, nil
	}
	return b.ask(ctx, now)
}

// Ready returns how many attempts may go now, [Unlimited] when the breaker is
// closed. When that is 0, next is when it is worth while to ask again; a zero
// next means not before Config.Room is called. It asks nobody and takes nothing:
// only a permit is certain.
func (b *Breaker) Ready(now time.Time) (n int, next time.Time) {
	if b.State() == Closed {
		return Unlimited, time.Time{}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	n, next = b.ready(now)
	return n, b.group.local(next)
}

// ready is [Breaker.Ready] for who has the lock; next is of the store's clock. While
// the instance is without its store it makes one probe at a time, and none for a
// while at first: others may have some in flight of which it has not heard.
func (b *Breaker) ready(now time.Time) (n int, next time.Time) {
	s := b.settings.Load()
	at := b.group.clock(now)
	if b.joined || b.group.store == nil || b.circuit.State == Closed {
		return b.circuit.Ready(at, s)
	}
	one := *s
	one.HalfOpenMaxRequests = 1
	n, next = b.circuit.Ready(at, &one)
	if begins := b.group.clock(b.left.Add(probesAlone)); n > 0 && at.Before(begins) {
		return 0, begins
	}
	return n, next
}

// Circuit returns the circuit as this instance knows it. Its times are of the
// store's clock.
func (b *Breaker) Circuit() Circuit {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.joined {
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

// refusal refuses what, as far as this instance knows, nobody need be asked
// about.
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

// become takes c for the circuit.
func (b *Breaker) become(c Circuit) {
	if c.Generation != b.circuit.Generation {
		b.tally = b.tally.late()
	}
	b.circuit = c
	b.word.Store(c.Generation<<stateBits | uint64(c.State))
}

// step applies an event to the circuit while the breaker is not joined. The
// tally must have been folded in.
func (b *Breaker) step(e Event, now time.Time) Effect {
	c, effect := Step(b.circuit, e, now, *b.settings.Load())
	if effect.Written {
		b.diverged = b.diverged || !c.decidesLike(&b.circuit)
		b.become(c)
	}
	return effect
}

// fold brings the tally into the circuit, at the end of the bucket to which it
// belongs.
func (b *Breaker) fold() Effect {
	return b.foldAt(time.Unix(0, b.bucketEnd-1))
}

func (b *Breaker) foldAt(now time.Time) Effect {
	if b.tally.empty() {
		return Effect{}
	}
	t := b.tally
	b.tally = Tally{}
	b.owe(t)
	return b.step(Event{Kind: Report, By: b.group.instance, Generation: b.circuit.Generation, Tally: t}, now)
}

// owe keeps totals for the store, if there is one.
func (b *Breaker) owe(t Tally) {
	if b.group.store != nil {
		b.owed.Merge(t.late())
	}
}
