package breaker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nuid"
)

// Group is the breakers of one instance. Without a store it works by itself and
// needs no [Group.Run]. It is safe for concurrent use.
type Group struct {
	instance string
	store    Store
	config   Config

	probes atomic.Uint64 // numbers the probes of this instance
	offset atomic.Int64  // the store's clock less ours, in nanoseconds

	mu       sync.RWMutex // guards breakers
	breakers map[string]*Breaker

	share sharing
}

// Config is what a [Group] may be given. The zero value is a group without a
// store.
type Config struct {
	// Instance names this instance among those that share the store. By default
	// it is a random one.
	Instance string
	// Store is what the instances share; nil is a breaker of this instance's own.
	Store Store
	// Forget is for how long the store keeps a closed breaker that nobody uses; 0 is a
	// day. See [Group.Forget].
	Forget time.Duration
	// Changed is called for every change of a breaker that this instance made or
	// saw, after it has taken effect. It is called on goroutines that have other
	// work to do, several at once, so it must be quick.
	Changed func(Change)
	// Room is called, like Changed, with a key whose breaker may let more
	// attempts through than before: it changed, or a probe came back.
	Room func(key string)
	// StatusChanged is called, like Changed, when the group loses or regains its
	// store.
	StatusChanged func(Status)
	// Now is the clock, [time.Now] when nil. The times that are passed in are of it
	// too.
	Now func() time.Time
}

// Change is one change of a breaker.
type Change struct {
	Key      string
	From, To State
	Cause    Cause
	// Note is what an operator said about it.
	Note string
	// Generation is the one that began with it. Key and Generation identify the
	// change over all instances, unless they were parted.
	Generation uint64
	At         time.Time
	// NextAttempt is when the breaker lets probes through; zero when it is not
	// open, or held.
	NextAttempt time.Time
	Held        bool
	// Own says that this instance made the change. Of all instances just one has
	// it so: the one that is to tell the world. A change that an instance made
	// while it was alone is told then, and again, as merged, if it wins.
	Own bool
}

// Status says with whom the breakers are shared.
type Status struct {
	// Shared says that the states are those of the store. Without it the instance
	// is alone, because it has no store or because of Err.
	Shared bool
	// Since is when Shared became what it is.
	Since time.Time
	// Err is what is wrong. With Shared it is that changes by other instances are
	// not being told of; they are noticed by the next event.
	Err error
}

// NewGroup returns a group whose breakers are all closed. With a store it is
// alone until [Group.Join] or [Group.Run].
func NewGroup(c Config) *Group {
	g := &Group{instance: cmp.Or(c.Instance, nuid.Next()), store: c.Store, config: c, breakers: map[string]*Breaker{}}
	g.share.init()
	return g
}

// Breaker returns the breaker of key, always the same one, which has the
// settings s from now on, until [Group.Forget] drops it.
func (g *Group) Breaker(key string, s Settings) *Breaker {
	b := g.breaker(key)
	b.set(s)
	return b
}

// breaker returns the breaker of key with the settings that it has.
func (g *Group) breaker(key string) *Breaker {
	if b := g.lookup(key); b != nil {
		return b
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	b, ok := g.breakers[key]
	if !ok {
		b = newBreaker(g, key)
		g.breakers[key] = b
	}
	return b
}

// Lookup returns the breaker of key if the group has heard of it, with the
// settings that it has.
func (g *Group) Lookup(key string) (b *Breaker, ok bool) {
	b = g.lookup(key)
	return b, b != nil
}

func (g *Group) lookup(key string) *Breaker {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.breakers[key]
}

// all returns the breakers in the order of their keys.
func (g *Group) all() []*Breaker {
	g.mu.RLock()
	defer g.mu.RUnlock()
	all := make([]*Breaker, 0, len(g.breakers))
	for _, b := range g.breakers {
		all = append(all, b)
	}
	slices.SortFunc(all, func(a, b *Breaker) int { return cmp.Compare(a.key, b.key) })
	return all
}

// Known returns the circuit of key as this instance knows it; ok is false when
// it knows of none. Its times are of the store's clock.
func (g *Group) Known(key string) (c Circuit, ok bool) {
	b := g.lookup(key)
	if b == nil {
		return Circuit{}, false
	}
	return b.Circuit(), true
}

// States returns the state of every breaker by its key, as far as this instance
// knows. It asks no store.
func (g *Group) States() map[string]State {
	g.mu.RLock()
	defer g.mu.RUnlock()
	states := make(map[string]State, len(g.breakers))
	for key, b := range g.breakers {
		states[key] = b.State()
	}
	return states
}

// Circuits returns every circuit in the order of the keys: the store's, or, when
// the group is alone, those of this instance. With a store that fails it returns
// the latter and the error.
func (g *Group) Circuits(ctx context.Context) ([]Circuit, error) {
	var circuits []Circuit
	var err error
	if g.share.on() {
		if circuits, err = g.store.Load(ctx); err == nil {
			slices.SortFunc(circuits, func(a, b Circuit) int { return cmp.Compare(a.ServiceKey, b.ServiceKey) })
			return circuits, nil
		}
		err = fmt.Errorf("breaker: reading the store: %w", err)
	}
	circuits = nil
	for _, b := range g.all() {
		circuits = append(circuits, b.Circuit())
	}
	return circuits, err
}

// Trip opens the breaker of key now, for d, at most 30 days, or as long as its
// settings say when d is 0. A held breaker stays held. The note is shown to who
// looks. The error is [ErrAlone] when the store could not be told.
func (g *Group) Trip(ctx context.Context, key string, d time.Duration, note string) (Circuit, error) {
	return g.operate(ctx, key, Event{Kind: Trip, For: d, Note: note})
}

// Hold opens the breaker of key until it is reset. See [Group.Trip].
func (g *Group) Hold(ctx context.Context, key, note string) (Circuit, error) {
	return g.operate(ctx, key, Event{Kind: Hold, Note: note})
}

// Reset closes the breaker of key. See [Group.Trip].
func (g *Group) Reset(ctx context.Context, key, note string) (Circuit, error) {
	return g.operate(ctx, key, Event{Kind: Reset, Note: note})
}

func (g *Group) operate(ctx context.Context, key string, e Event) (Circuit, error) {
	const longest = 500
	if len(e.Note) > longest {
		return Circuit{}, fmt.Errorf("breaker: the note has %d bytes, more than the %d allowed", len(e.Note), longest)
	}
	if e.For < 0 || e.For > HeldTTL {
		return Circuit{}, fmt.Errorf("breaker: a breaker can be tripped for at most %v, not %v", HeldTTL, e.For)
	}
	b := g.breaker(key)
	r, err := b.do(ctx, e, g.now())
	if err == nil && g.store != nil && !r.shared {
		err = ErrAlone
	}
	return r.Circuit, err
}

// Status says whether the breakers are shared.
func (g *Group) Status() Status { return g.share.get() }

// errNoStore is the error of a group that was given no store but is asked to
// join one.
var errNoStore = errors.New("breaker: the group has no store")

// changed and room call back when there is somebody to call.
func (g *Group) changed(c Change) {
	if g.config.Changed != nil {
		g.config.Changed(c)
	}
}

func (g *Group) room(key string) {
	if g.config.Room != nil {
		g.config.Room(key)
	}
}

// now tells the time by our clock.
func (g *Group) now() time.Time {
	if g.config.Now == nil {
		return time.Now()
	}
	return g.config.Now()
}

// clock turns a time of ours into one of the store's.
func (g *Group) clock(now time.Time) time.Time {
	if o := g.offset.Load(); o != 0 {
		return now.Add(time.Duration(o))
	}
	return now
}

// local turns a time of the store's into one of ours.
func (g *Group) local(t time.Time) time.Time {
	if o := g.offset.Load(); o != 0 && !t.IsZero() {
		return t.Add(-time.Duration(o))
	}
	return t
}
