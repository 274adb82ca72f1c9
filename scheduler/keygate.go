package scheduler

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/internal/notify"
	"github.com/rebound-mq/rebound/scheduler/gate"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// maxWaiting is how many operations may wait at a gate that is about to open.
const maxWaiting = 256

// keyGate is the gate of one key with the operations that wait there in memory.
type keyGate struct {
	identity
	gate *gate.Gate
	unlocked
	// indexed are the dependencies under which [Gates] indexes it; guarded by the lock
	// of Gates.
	indexed []string

	mu        sync.Mutex // guards the fields below
	settings  gate.Settings
	dependsOn []string
	waiters   []*waiter // in the order of their arrival
	next      *waiter   // whose turn it is, nil when nobody waits
	turns     gate.RoundRobin
	refused   gate.Cause
	used      time.Time // when it was last asked for a pass
	uses      int       // how often since the last lease arrived
	inLanes
	leasing
	inHand
	turned turnedAway
}

// leasing is how a key stands with the ledger of its limits.
type leasing struct {
	renewed time.Time // when the last lease arrived
	more    bool      // and whether more may be had once its budget is used up
	until   time.Time // when the lease, or the wait for one, ends
	awaits  bool      // nothing goes before a lease arrives
	claimed bool      // the rest of the last lease is handed in for another
}

// identity is a key and the hash of its service.
type identity struct {
	key     string
	service events.ServiceHash
}

func identify(key string) identity {
	service, _, _ := strings.Cut(key, ":")
	return identity{key, events.HashService(service)}
}

// inLanes is what this instance knows of the operations in the lanes of a key.
type inLanes struct {
	held     gate.Lengths // how many there are
	released time.Time    // when one was last let out here
}

// unlocked are the fields of a keyGate that need no lock.
type unlocked struct {
	// users counts the callers of [Gates.of] that have not released it; it must not be
	// forgotten before they have.
	users    atomic.Int32
	arrivals atomic.Uint64 // counts the operations that arrived
	paused   atomic.Pointer[pausedKey]
	guarded  atomic.Bool // the policy has a breaker
	respects atomic.Bool // the operation that came last respects backpressure
}

// heeds returns a breaker of the key if it has a say, else nil.
func (k *keyGate) heeds(b *breaker.Breaker) *breaker.Breaker {
	if b == nil || !k.guarded.Load() && !b.Forced() {
		return nil
	}
	return b
}

// waiter is one operation that waits.
type waiter struct {
	priority events.Priority
	turn     notify.Signal // set when it should ask again
}

// set puts the settings of a policy in force. It returns whether the key's
// dependencies have changed.
func (k *keyGate) set(pol *policy.Policy) (others bool) {
	s := pol.Gate()
	if k.guarded.Load() != pol.EnableCircuitBreaker {
		k.guarded.Store(pol.EnableCircuitBreaker)
	}
	if k.respects.Load() != pol.RespectGlobalBackpressure {
		k.respects.Store(pol.RespectGlobalBackpressure)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if others = !slices.Equal(k.dependsOn, pol.DependsOn); others {
		k.dependsOn = pol.DependsOn
	}
	if k.settings != s {
		k.settings = s
		k.gate.Set(s)
	}
	return others
}

// use records that the gate was used.
func (k *keyGate) use(now time.Time) {
	k.mu.Lock()
	k.used = now
	k.mu.Unlock()
}

// release undoes [Gates.of].
func (k *keyGate) release() { k.users.Add(-1) }

// idle reports whether the gate was not used since a time and could be replaced by a
// new one: it has no operations and no state of its own.
func (k *keyGate) idle(since, now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	awaits := k.awaits && !gate.Over(k.until, now)
	return k.used.Before(since) && len(k.waiters) == 0 && k.held.Total() == 0 && !awaits && k.gate.Idle(now)
}

func (k *keyGate) dependencies() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.dependsOn
}

// budget returns the budget of which the key has a share.
func (k *keyGate) budget() gate.Cause {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.settings.Budget()
}

// lastReleased returns when the lanes last let an operation out here.
func (k *keyGate) lastReleased() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.released
}

// counted returns how many operations the lanes held when last counted.
func (k *keyGate) counted() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.held.Total()
}

// awaitsLease reports whether the gate is only shut until a lease arrives, how long to
// wait for it, and whether it is the first.
func (k *keyGate) awaitsLease(c gate.Cause) (until time.Time, first, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.until, k.awaits, k.awaits || k.claimed && c == gate.CauseBudgetShare
}

// unclaimed reports whether a lease is to come and no operation waits for it.
func (k *keyGate) unclaimed() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return (k.awaits || k.claimed) && len(k.waiters) == 0 && k.held.Total() == 0
}

// waiting returns how many operations wait at the gate.
func (k *keyGate) waiting() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.waiters)
}

// isTurnOf reports whether it is the turn of w, or of a newcomer when w is nil.
func (k *keyGate) isTurnOf(w *waiter) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.next == w
}

// join adds an operation to the queue. It returns nil if most wait already.
func (k *keyGate) join(p events.Priority, most int) *waiter {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.waiters) >= most {
		return nil
	}
	w := &waiter{priority: p, turn: notify.NewSignal()}
	k.waiters = append(k.waiters, w)
	k.gate.Note(gate.Waiting(0).With(p), k.used)
	if k.next == nil {
		k.choose()
	} else if k.passOver() {
		k.signal()
	}
	return w
}

// passOver gives the turn to another if the reserve of the budgets refuses the one that has
// it. It reports whether it did.
func (k *keyGate) passOver() bool {
	before := k.next
	if before != nil && k.reserved().Has(before.priority) {
		k.choose()
	}
	return k.next != before
}

// reserved returns the priorities that must leave what is left of the budgets to others.
func (k *keyGate) reserved() gate.Waiting {
	if k.settings.PerMinute <= 0 && k.settings.PerHour <= 0 {
		return 0
	}
	return k.gate.Reserved(k.used)
}

// demand returns how many operations wait that may use more of the limits.
func (k *keyGate) demand(now time.Time) int {
	reserved := k.gate.Reserved(now)
	n := 0
	for p, held := range k.held {
		if !reserved.Has(events.Priority(p)) {
			n += held
		}
	}
	for _, w := range k.waiters {
		if !reserved.Has(w.priority) {
			n++
		}
	}
	return n
}

// leave removes w, which may be nil, from the queue and gives the next one its turn.
func (k *keyGate) leave(w *waiter) {
	if w == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	i := slices.Index(k.waiters, w)
	k.waiters = slices.Delete(k.waiters, i, i+1)
	if k.next == w {
		k.choose()
		k.signal()
	}
}

// choose picks whose turn it is, by the same round robin as for the lanes. It passes over
// those that the reserve of the budgets refuses.
func (k *keyGate) choose() {
	var waiting gate.Waiting
	for _, w := range k.waiters {
		waiting = waiting.With(w.priority)
	}
	if allowed := waiting &^ k.reserved(); allowed != 0 {
		waiting = allowed
	}
	p, after, ok := k.turns.Next(waiting)
	k.next, k.turns = nil, after
	if ok {
		k.next = k.waiters[slices.IndexFunc(k.waiters, func(w *waiter) bool { return w.priority == p })]
	}
}

// wake makes the one whose turn it is ask again.
func (k *keyGate) wake() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.passOver()
	k.signal()
}

func (k *keyGate) signal() {
	if k.next != nil {
		k.next.turn.Set()
	}
}

// wait returns when w should ask again, or with the error of ctx.
func (w *waiter) wait(ctx context.Context, most time.Duration) error {
	backoff.SleepUnless(ctx, most, w.turn)
	return ctx.Err()
}

// note remembers why the gate was last shut, for those further back in the queue.
func (k *keyGate) note(c gate.Cause) {
	k.mu.Lock()
	k.refused = c
	k.mu.Unlock()
}

// noteFor is [keyGate.note] of what has shut the gate for operations of p. What the reserve of
// a budget refuses them says nothing about more urgent ones.
func (k *keyGate) noteFor(p events.Priority, c gate.Cause) {
	k.mu.Lock()
	defer k.mu.Unlock()
	spent := c == gate.CauseBudgetPerMinute || c == gate.CauseBudgetPerHour
	if !spent || !k.reserved().Has(p) {
		k.refused = c
	}
}

func (k *keyGate) cause() gate.Cause {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.refused
}

// turnedAway is how a key turns operations away, one after the other for the same cause.
type turnedAway struct {
	cause       gate.Cause
	since, last time.Time
}

// turnedAwayGap is how long after the last operation was turned away another is taken to be
// turned away still, and not anew. Lanes and probes let one through now and then.
const turnedAwayGap = 20 * time.Second

// turnAway records that an operation was turned away. began is whether none was lately.
func (k *keyGate) turnAway(c gate.Cause, now time.Time) (began bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	t := &k.turned
	if began = !k.stillTurned(c, now); began {
		t.cause, t.since = c, now
	}
	t.last = now
	return began
}

// shutSince returns since when operations are turned away for a cause, now if none was.
func (k *keyGate) shutSince(c gate.Cause, now time.Time) time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.stillTurned(c, now) {
		return now
	}
	return k.turned.since
}

// stillTurned reports whether operations are turned away for a cause, not anew.
func (k *keyGate) stillTurned(c gate.Cause, now time.Time) bool {
	return k.turned.cause == c && (k.held.Total() > 0 || now.Sub(k.turned.last) <= turnedAwayGap)
}
