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

	"github.com/rebound-mq/rebound/internal/shrink"
)

// Group holds the breakers of one instance. Without a store it works alone and needs no
// [Group.Run]. It is safe for concurrent use.
type Group struct {
	instance string
	store    Store
	config   Config

	probes atomic.Uint64 // the number of the last probe
	offset atomic.Int64  // the store's clock minus the local one, in nanoseconds

	mu       sync.RWMutex // guards breakers
	breakers map[string]*Breaker

	share sharing
}

// Config configures a [Group]. The zero value is a group without a store.
type Config struct {
	// Instance names this instance among those that share the store; a random name when empty.
	Instance string
	// Store is shared by the instances; nil keeps the breakers in this instance.
	Store Store
	// Forget is how long the store keeps a closed breaker that is not used; 0 is a day. See
	// [Group.Forget].
	Forget time.Duration
	// Changed is called for every change of a breaker that this instance made or saw, after it
	// has taken effect. The calls are concurrent and must be quick, because they come from
	// goroutines with other work to do.
	Changed func(Change)
	// Freed is called, like Changed, with a key whose breaker may allow more attempts than
	// before: it changed, or a probe ended.
	Freed func(key string)
	// StatusChanged is called, like Changed, when the group loses or regains its store.
	StatusChanged func(Status)
	// Check is how often the store is asked whether it is there. 0 is half a second, and a quarter
	// of one while it is away. Many processes that share a store should ask less often: every
	// other call notices its loss, too.
	Check time.Duration
	// Now is the clock, [time.Now] when nil. Times passed to the group must be on this clock.
	Now func() time.Time
}

// Change is one change of a breaker.
type Change struct {
	Key      string
	From, To State
	Cause    Cause
	// Operator and Note are an operator's name and reason for the change.
	Operator string
	Note     string
	// Error is what the last failure said.
	Error string
	// Generation is the one that began with the change. Key and Generation identify a change
	// across all instances, except those made while detached.
	Generation uint64
	At         time.Time
	// NextAttempt is when the breaker lets probes through; zero if it is held or not open.
	NextAttempt time.Time
	Held        bool
	// Own reports whether this instance made the change and so should publish it. A change made
	// while it was alone is published then and, if it wins the merge, again with CauseMerged.
	Own bool
}

// Status says whether the breakers are shared.
type Status struct {
	// Shared reports whether the states are those of the store. Otherwise the instance is alone,
	// because it has no store or because of Err.
	Shared bool
	// Since is when Shared last changed.
	Since time.Time
	// Err is the problem with the store. If Shared is true, changes by other instances are not
	// being received; the next event will show them.
	Err error
}

// NewGroup returns a group whose breakers are all closed. With a store it is alone until
// [Group.Join] or [Group.Run].
func NewGroup(c Config) *Group {
	g := &Group{instance: cmp.Or(c.Instance, nuid.Next()), store: c.Store, config: c, breakers: map[string]*Breaker{}}
	g.share.init()
	return g
}

// Breaker returns the breaker of key and puts the settings s in force. It returns the same
// breaker for a key until [Group.Forget] drops it.
func (g *Group) Breaker(key string, s Settings) *Breaker {
	b := g.breaker(key)
	b.set(s)
	return b
}

// breaker returns the breaker of key without changing its settings.
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

// Lookup returns the breaker of key if the group knows it, without changing its settings.
func (g *Group) Lookup(key string) (b *Breaker, ok bool) {
	b = g.lookup(key)
	return b, b != nil
}

func (g *Group) lookup(key string) *Breaker {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.breakers[key]
}

// all returns the breakers sorted by key.
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

// Known returns the circuit of key as this instance knows it; ok is false if it does not. Its
// times are on the store's clock.
func (g *Group) Known(key string) (c Circuit, ok bool) {
	b := g.lookup(key)
	if b == nil {
		return Circuit{}, false
	}
	return b.Circuit(), true
}

// States returns the state of every breaker by key, as this instance knows it. It does not ask
// the store.
func (g *Group) States() map[string]State {
	g.mu.RLock()
	defer g.mu.RUnlock()
	states := make(map[string]State, len(g.breakers))
	for key, b := range g.breakers {
		states[key] = b.State()
	}
	return states
}

// Circuits returns every circuit sorted by key: the store's or, if the group is alone, those of
// this instance. If the store fails it returns the latter and the error.
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

// Bounds of an operator's actions.
const (
	// LongestTrip bounds how long a breaker can be tripped.
	LongestTrip = HeldTTL
	// MaxNote bounds a note, and MaxOperator an operator's name, in bytes.
	MaxNote     = 500
	MaxOperator = 128
)

// Operator is who acts on a breaker, at most [MaxOperator] bytes, and why, at most [MaxNote]. Both
// are shown with the breaker, and either may be empty.
type Operator struct{ Name, Note string }

// Trip opens the breaker of key now for d, at most [LongestTrip], or for the settings' Timeout if
// d is 0. A held breaker stays held. The error is [ErrAlone] if the store did not answer.
func (g *Group) Trip(ctx context.Context, key string, d time.Duration, o Operator) (Circuit, error) {
	return g.operate(ctx, key, Event{Kind: Trip, For: d, Operator: o.Name, Note: o.Note})
}

// Hold opens the breaker of key until it is reset. See [Group.Trip].
func (g *Group) Hold(ctx context.Context, key string, o Operator) (Circuit, error) {
	return g.operate(ctx, key, Event{Kind: Hold, Operator: o.Name, Note: o.Note})
}

// Reset closes the breaker of key. See [Group.Trip].
func (g *Group) Reset(ctx context.Context, key string, o Operator) (Circuit, error) {
	return g.operate(ctx, key, Event{Kind: Reset, Operator: o.Name, Note: o.Note})
}

func (g *Group) operate(ctx context.Context, key string, e Event) (Circuit, error) {
	if len(e.Note) > MaxNote {
		return Circuit{}, fmt.Errorf("breaker: the note has %d bytes, more than the %d allowed", len(e.Note), MaxNote)
	}
	if len(e.Operator) > MaxOperator {
		return Circuit{}, fmt.Errorf("breaker: the operator's name has %d bytes, more than the %d allowed", len(e.Operator), MaxOperator)
	}
	if e.For < 0 || e.For > LongestTrip {
		return Circuit{}, fmt.Errorf("breaker: a breaker can be tripped for at most %v, not %v", LongestTrip, e.For)
	}
	b := g.breaker(key)
	r, err := b.do(ctx, e, g.now())
	if err == nil && g.store != nil && !r.shared {
		err = ErrAlone
	}
	return r.Circuit, err
}

// Status reports whether the breakers are shared.
func (g *Group) Status() Status { return g.share.get() }

// errNoStore means that a group without a store was asked to join one.
var errNoStore = errors.New("breaker: the group has no store")

// changed and freed invoke the callbacks, if any.
func (g *Group) changed(c Change) {
	if g.config.Changed != nil {
		g.config.Changed(c)
	}
}

func (g *Group) freed(key string) {
	if g.config.Freed != nil {
		g.config.Freed(key)
	}
}

// now returns the local time.
func (g *Group) now() time.Time {
	if g.config.Now == nil {
		return time.Now()
	}
	return g.config.Now()
}

// clock converts a local time to the store's clock.
func (g *Group) clock(now time.Time) time.Time {
	if o := g.offset.Load(); o != 0 {
		return now.Add(time.Duration(o))
	}
	return now
}

// local converts a time on the store's clock to the local one.
func (g *Group) local(t time.Time) time.Time {
	if o := g.offset.Load(); o != 0 && !t.IsZero() {
		return t.Add(-time.Duration(o))
	}
	return t
}

// Forget drops the breakers not used since the given time, and returns how many. It keeps those
// that are not closed, that an operator has changed, or that have news for the store. If the key
// is used again it gets a new breaker, which learns from the store what other instances did
// meanwhile.
func (g *Group) Forget(since time.Time) int {
	var keys []string
	g.mu.Lock()
	for key, b := range g.breakers {
		if b.forgettable(since) {
			delete(g.breakers, key)
			keys = append(keys, key)
		}
	}
	g.breakers = shrink.Map(g.breakers, len(keys))
	g.mu.Unlock()
	if g.store != nil {
		g.store.Forget(keys)
	}
	return len(keys)
}

// forgettable reports whether a new breaker would do as well.
func (b *Breaker) forgettable(since time.Time) bool {
	if b.State() != Closed || b.used.Load()+int64(useGrain) >= since.UnixNano() {
		return false
	}
	select {
	case b.flow <- struct{}{}:
		defer func() { <-b.flow }()
	default:
		return false // an event is being sent
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.circuit.ordinary() && (b.group.store == nil || b.attached && !b.news())
}

// news reports whether the breaker has anything to send to the store.
func (b *Breaker) news() bool {
	return b.queued != idle || !b.tally.empty() || !b.unreported.empty() || b.diverged || len(b.returns) > 0 || len(b.returned) > 0
}
