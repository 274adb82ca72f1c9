package scheduler

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/shrink"
	"github.com/rebound-mq/rebound/scheduler/gate"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// Gates are the gates of all keys at one instance. The gate of a key says whether a
// due operation may go to its target now. It combines the key's breaker and those of
// its dependencies, concurrency and budgets, the governor and global backpressure;
// see package gate. A nil *Gates lets everything go. It is safe for concurrent use.
type Gates struct {
	breakers *breaker.Group
	config   GatesConfig

	pauses    atomic.Pointer[Pauses]
	pressure  atomic.Bool
	instances atomic.Int32
	shared    atomic.Bool               // limits are shared, and their store is within reach
	failing   atomic.Pointer[time.Time] // when the store began to fail to give leases; nil while it does not
	inFlight  atomic.Int64
	probers   atomic.Int32 // the operations in hand whose target is absent
	tally     tally

	mu         sync.RWMutex // guards the fields below
	keys       map[string]*keyGate
	notClosed  index[*breaker.Breaker] // the breakers that are not closed
	dependents index[*keyGate]         // the gates of keys with dependencies, by dependency
}

// GatesConfig holds optional settings. Its functions are called concurrently, by
// goroutines with other work to do, so they must be quick.
type GatesConfig struct {
	// Opened is called with a key whose gate may let more through than before.
	Opened func(key string)
	// Lease is called with a key that needs a lease of its limits. Nil means an
	// instance that is alone and has the limits to itself.
	Lease func(key string)
	// Shut is called when the gate of a key begins to turn operations away, with the cause
	// and the target of the first.
	Shut func(key string, cause gate.Cause, subject string)
	// Capacity returns how many operations this instance may have in flight, which the keys
	// share. Nil is no limit.
	Capacity func() int
	// MostProbers is how many operations may stay in hand because nobody listens on their
	// target; the others are held. 0 keeps none.
	MostProbers int
	// OnlyLimits leaves out the retry budget and the governor. They pace operations that
	// wait here, which a process that makes its own calls has none of.
	OnlyLimits bool
	// OwnDelay returns how much of a response time that has just been measured may be this
	// instance's own delay. Nil means nothing.
	OwnDelay func() time.Duration
	// Draining is closed when the instance is about to stop, so that nothing waits for
	// long any more.
	Draining <-chan struct{}
	// Now is the clock, [time.Now] when nil. Times that are passed in must be by this
	// clock too.
	Now func() time.Time
}

// NewGates returns gates that use the breakers of a group. [Gates.Changed] must be
// called with every change of the group.
func NewGates(breakers *breaker.Group, config GatesConfig) *Gates {
	if config.Now == nil {
		config.Now = time.Now
	}
	g := &Gates{
		breakers: breakers, config: config, keys: make(map[string]*keyGate),
		notClosed: make(index[*breaker.Breaker]), dependents: make(index[*keyGate]),
	}
	g.instances.Store(1)
	g.shared.Store(config.Lease != nil)
	return g
}

// trickleEvery is the pause between two attempts of a failing key while backpressure is on,
// over all instances: each waits as many times as long as there are instances, up to
// slowestTrickle.
const (
	trickleEvery   = time.Second
	slowestTrickle = 10 * time.Second
)

// SetPressure turns global backpressure on or off. While it is on, failing keys have a
// trickle of attempts; see [gate.Conditions].
func (g *Gates) SetPressure(on bool) {
	if g.pressure.Swap(on) && !on {
		for _, k := range g.all() {
			k.wake()
			g.opened(k.key)
		}
	}
}

// ownDelay returns how much of a response time that has just been measured may be this
// instance's own delay.
func (g *Gates) ownDelay() time.Duration {
	if g == nil || g.config.OwnDelay == nil {
		return 0
	}
	return g.config.OwnDelay()
}

// SetInstances sets the number of instances, including this one.
func (g *Gates) SetInstances(n int) { g.instances.Store(int32(max(n, 1))) }

// trickle returns the pause between two attempts of a failing key here, 0 when nothing is
// held back. respects is whether the operations in question respect backpressure, in which
// those of one key may differ.
func (g *Gates) trickle(respects bool) time.Duration {
	if !respects || !g.pressure.Load() {
		return 0
	}
	return min(time.Duration(g.instances.Load())*trickleEvery, slowestTrickle)
}

// Changed notes that a breaker has changed.
func (g *Gates) Changed(c breaker.Change) {
	b, ok := g.breakers.Lookup(c.Key)
	if !ok {
		return
	}
	names := namesOf(c.Key)
	g.mu.Lock()
	if b.State() == breaker.Closed {
		g.notClosed.remove(c.Key, names)
	} else {
		g.notClosed.add(c.Key, b, names)
	}
	own := g.keys[c.Key]
	g.mu.Unlock()
	if own != nil {
		// The governor learns of an outage and of its end from being asked.
		now := g.config.Now()
		var c gate.Conditions
		if b := own.heeds(b); b != nil {
			c.Breaker = gate.Bounded(b.Ready(now))
		}
		own.gate.Ready(c, now)
		own.wake()
	}
	for _, k := range g.dependentsOn(c.Key) {
		k.wake()
		g.opened(k.key)
	}
}

// Freed notes that the breaker of a key may let more attempts through than before, although
// its state is the same: a probe was given back, which the key's dependents may use too.
func (g *Gates) Freed(key string) {
	g.opened(key)
	for _, k := range g.dependentsOn(key) {
		k.wake()
		g.opened(k.key)
	}
}

// dependentsOn returns the gates of the other keys that depend on a key or its service.
func (g *Gates) dependentsOn(key string) (dependents []*keyGate) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	for _, name := range namesOf(key) {
		for other, k := range g.dependents[name] {
			if other != key {
				dependents = append(dependents, k)
			}
		}
	}
	return dependents
}

// draining reports whether the instance is about to stop.
func (g *Gates) draining() bool {
	select {
	case <-g.config.Draining:
		return true
	default:
		return false
	}
}

func (g *Gates) opened(key string) {
	if g.config.Opened != nil {
		g.config.Opened(key)
	}
}

// of returns the gate of a key, with the settings of its policy in force. It is not
// forgotten until [keyGate.release] is called.
func (g *Gates) of(pol *policy.Policy, key string) *keyGate {
	g.mu.RLock()
	k := g.keys[key]
	if k != nil {
		k.users.Add(1)
	}
	g.mu.RUnlock()
	if k == nil {
		g.mu.Lock()
		if k = g.keys[key]; k == nil {
			k = &keyGate{identity: identify(key), gate: gate.New(pol.Gate()), settings: pol.Gate()}
			g.keys[key] = k
		}
		k.users.Add(1)
		g.mu.Unlock()
	}
	if k.set(pol) {
		g.depend(k)
	}
	return k
}

// depend updates the index of dependents for a key whose dependencies have changed.
func (g *Gates) depend(k *keyGate) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dependents.remove(k.key, k.indexed)
	k.indexed = k.dependencies()
	g.dependents.add(k.key, k, k.indexed)
}

// known returns the gate of a key, nil when there is none.
func (g *Gates) known(key string) *keyGate {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.keys[key]
}

func (g *Gates) all() []*keyGate {
	g.mu.RLock()
	defer g.mu.RUnlock()
	all := make([]*keyGate, 0, len(g.keys))
	for _, k := range g.keys {
		all = append(all, k)
	}
	return all
}

// breaker returns the breaker of a key, nil when the policy has none and no operator has
// opened it.
func (g *Gates) breaker(pol *policy.Policy, key string) *breaker.Breaker {
	switch {
	case g == nil:
		return nil
	case !pol.EnableCircuitBreaker:
		if b, ok := g.breakers.Lookup(key); !ok || !b.Forced() {
			return nil
		}
	}
	return g.breakers.Breaker(key, pol.BreakerSettings())
}

// kind are the operations of a key for which its gate is asked.
type kind struct {
	priority events.Priority
	respects bool // respectGlobalBackpressure
}

// conditions returns the conditions for the gate of a key, for operations of a kind.
func (g *Gates) conditions(k *keyGate, b *breaker.Breaker, of kind, now time.Time) gate.Conditions {
	c := gate.Conditions{Pause: g.pause(k, now), Priority: of.priority, Trickle: g.trickle(of.respects), Unpaced: g.config.OnlyLimits, Instances: int(g.instances.Load())}
	if g.config.Capacity != nil {
		c.Threshold = gate.Threshold(g.config.Capacity(), g.Active())
	}
	if b != nil {
		c.Breaker = gate.Bounded(b.Ready(now))
	}
	if names := k.dependencies(); len(names) > 0 {
		c.Dependencies = g.dependencyBound(names, k.key, now)
	}
	return c
}

// dependencyBound returns what the breakers of a key's dependencies let through. A
// service without an operation type counts as the worst of its keys.
func (g *Gates) dependencyBound(names []string, key string, now time.Time) gate.Bound {
	g.mu.RLock()
	defer g.mu.RUnlock()
	var bound gate.Bound
	for _, name := range names {
		for other, b := range g.notClosed[name] {
			if other != key {
				bound = bound.And(gate.Bounded(b.Ready(now)))
			}
		}
	}
	return bound
}

// Forget drops the gates of keys that were not used since a time and returns how many.
// It keeps a gate that has operations in flight or held, that paces their release, or
// whose use of a budget is stored nowhere else. A key that comes back gets a new gate,
// which its breaker and the ledger of its limits bring up to date.
func (g *Gates) Forget(since, now time.Time) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	forgotten := 0
	for key, k := range g.keys {
		if k.users.Load() > 0 || !k.idle(since, now) || g.pause(k, now).Limited {
			continue
		}
		g.dependents.remove(key, k.indexed)
		delete(g.keys, key)
		forgotten++
	}
	g.keys = shrink.Map(g.keys, forgotten)
	return forgotten
}

// index maps a name of a dependency, a service or a key, to what is known under it.
type index[V any] map[string]map[string]V

// namesOf returns the names by which other keys may depend on a key.
func namesOf(key string) []string {
	service, _, _ := strings.Cut(key, ":")
	return []string{service, key}
}

func (i index[V]) add(key string, v V, names []string) {
	for _, name := range names {
		if i[name] == nil {
			i[name] = make(map[string]V)
		}
		i[name][key] = v
	}
}

func (i index[V]) remove(key string, names []string) {
	for _, name := range names {
		if delete(i[name], key); len(i[name]) == 0 {
			delete(i, name)
		}
	}
}
