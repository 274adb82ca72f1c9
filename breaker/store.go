package breaker

import (
	"context"
	"time"
)

// Store holds the circuits that several instances share. [Memory] is one; those in Redis
// and in NATS are packages beside this one. All methods are safe for concurrent use,
// return when ctx ends, and return an error when the store cannot be reached; whether an
// event was applied is unknown then. A store keeps what [Encode] returns, and does what
// [Apply] does.
type Store interface {
	// Apply lets [Step] run on the circuit of key, in one atomic step, and notifies
	// the watchers. now is the caller's clock; a store with a clock of its own
	// uses that.
	Apply(ctx context.Context, key string, e Event, now time.Time, s Settings) (Reply, error)
	// Load returns every circuit.
	Load(ctx context.Context) ([]Circuit, error)
	// Read returns the circuits of some keys, in no order and without those that the
	// store does not hold.
	Read(ctx context.Context, keys []string) ([]Circuit, error)
	// Forget drops what this process remembers of keys that it does not use any more.
	// The store holds what it did.
	Forget(keys []string)
	// Watch calls changed with circuits that changed, until ctx ends or the
	// connection is lost for good, which is an error. It calls ready whenever it
	// has begun to see changes, at first and after each interruption: what was
	// changed before must be loaded. A circuit of which only totals changed may be
	// left out.
	Watch(ctx context.Context, ready func(), changed func(Circuit)) error
	// Ping reports whether the store is there, and what it is.
	Ping(ctx context.Context) (Pulse, error)
}

// Reply is the answer to an [Event].
type Reply struct {
	// Circuit is what the circuit became.
	Circuit Circuit
	Effect
	// Lost says that the store has lost what it held, because its circuit is
	// older than the one the event rests on. The event was not applied: the
	// instance must send what it knows as a [Rejoin] first.
	Lost bool
	// Now is the store's clock.
	Now time.Time
}

// Pulse is the answer to a Ping.
type Pulse struct {
	// Epoch identifies what the store holds. It is another once the store was
	// emptied.
	Epoch string
	// Now is the store's clock, zero when it goes by the clocks of the instances.
	Now time.Time
}

// How long a store keeps a circuit that nobody touches, when [Event.Idle] does not say. A
// circuit that is open stays until its timeout in addition.
const (
	CircuitTTL = 24 * time.Hour
	// HeldTTL is that of a circuit that is held.
	HeldTTL = 30 * 24 * time.Hour
)

// TTL is for how long a store keeps the circuit c, to which e led, if nobody touches it;
// 0 is for a circuit that must not be forgotten.
func (e *Event) TTL(c *Circuit, s *Settings) time.Duration {
	if !c.ordinary() || e.Idle <= 0 {
		return 0
	}
	return max(e.Idle, s.Window)
}

// ordinary reports whether the circuit lets everything through and nobody ever said
// otherwise: it may be forgotten when it was not used for a while.
func (c *Circuit) ordinary() bool {
	switch c.Cause {
	case CauseTripped, CauseHeld, CauseReset:
		return false
	}
	return c.State == Closed && !c.Held && c.Note == ""
}

// Apply is what a store does that runs [Step] itself: c is what it holds, a
// [NewCircuit] when it holds nothing.
func Apply(c Circuit, e Event, now time.Time, s Settings) Reply {
	if e.Kind != Rejoin && (e.Seen > c.Version || e.Seen > 0 && e.SeenGeneration > c.Generation) {
		return Reply{Circuit: c, Lost: true, Now: now}
	}
	next, effect := Step(c, e, now, s)
	if effect.Written {
		next.Version++
	}
	return Reply{Circuit: next, Effect: effect, Now: now}
}
