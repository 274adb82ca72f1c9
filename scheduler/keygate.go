package scheduler

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/internal/notify"
	"github.com/rebound-mq/rebound/scheduler/gate"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// maxWaiting is how many operations may wait at a gate that is about to open.
const maxWaiting = 256

// keyGate is the gate of one key with the operations that wait for a moment there.
type keyGate struct {
	key  string
	gate *gate.Gate
	// users are those that have it from [Gates.of], for whom it must not be forgotten.
	users atomic.Int32
	// noted are the dependencies by which [Gates] finds it; guarded by its lock.
	noted []string
	came  atomic.Uint64 // counts the operations that came

	mu        sync.Mutex // guards what follows
	settings  gate.Settings
	dependsOn []string
	waiters   []*waiter // in the order of their arrival
	next      *waiter   // whose turn it is, nil when nobody waits
	turns     gate.RoundRobin
	refused   gate.Cause
	used      time.Time // when it was last asked to let something through
	uses      int       // how often since the last lease came
	held      int       // how many are in the lanes, as far as this instance knows
	renewed   time.Time // when the last lease came
	more      bool      // and whether more may be had once its budget is used up
	until     time.Time // when it ends, or the wait for one
	awaits    bool      // a lease is waited for, and nothing goes before it comes
	claimed   bool      // what was left of the last lease is handed in for another
}

// waiter is one operation that waits.
type waiter struct {
	priority events.Priority
	turn     notify.Signal // set when it is to look again
}

// set puts the settings of a policy in force. It returns whether the key depends on
// other things than before.
func (k *keyGate) set(pol *policy.Policy) (others bool) {
	s := pol.Gate()
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

// use notes that the gate is of use.
func (k *keyGate) use(now time.Time) {
	k.mu.Lock()
	k.used = now
	k.mu.Unlock()
}

// release gives up what [Gates.of] returned.
func (k *keyGate) release() { k.users.Add(-1) }

// idle tells whether the gate was not used since a time and knows nothing that a
// new one would not: neither operations nor what they may do.
func (k *keyGate) idle(since, now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	awaits := k.awaits && !gate.Over(k.until, now)
	return k.used.Before(since) && len(k.waiters) == 0 && k.held == 0 && !awaits && k.gate.Idle(now)
}

func (k *keyGate) dependencies() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.dependsOn
}

// counted returns how many operations the lanes held when they were counted last.
func (k *keyGate) counted() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.held
}

// awaitsLease tells whether what shuts the gate is that a lease is on its way, until
// when to wait for it, and whether it is the first.
func (k *keyGate) awaitsLease(c gate.Cause) (until time.Time, first, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.until, k.awaits, k.awaits || k.claimed && c == gate.CauseBudgetShare
}

// unclaimed tells whether the key has a lease to come, and nobody who waits for it.
func (k *keyGate) unclaimed() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return (k.awaits || k.claimed) && len(k.waiters) == 0 && k.held == 0
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

// join lets an operation wait. It returns nil when too many do.
func (k *keyGate) join(p events.Priority) *waiter {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.waiters) >= maxWaiting {
		return nil
	}
	w := &waiter{priority: p, turn: notify.NewSignal()}
	k.waiters = append(k.waiters, w)
	if k.next == nil {
		k.choose()
	}
	return w
}

// leave ends the wait of w, which may be nil. The next has its turn.
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

// choose says whose turn it is, as for the lanes.
func (k *keyGate) choose() {
	var waiting gate.Waiting
	for _, w := range k.waiters {
		waiting = waiting.With(w.priority)
	}
	p, after, ok := k.turns.Next(waiting)
	k.next, k.turns = nil, after
	if ok {
		k.next = k.waiters[slices.IndexFunc(k.waiters, func(w *waiter) bool { return w.priority == p })]
	}
}

// wake lets the one whose turn it is look again.
func (k *keyGate) wake() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.signal()
}

func (k *keyGate) signal() {
	if k.next != nil {
		k.next.turn.Set()
	}
}

// wait returns when it is worth while to look again, or with the error of ctx.
func (w *waiter) wait(ctx context.Context, most time.Duration) error {
	backoff.SleepUnless(ctx, most, w.turn)
	return ctx.Err()
}

// note keeps why the gate was shut last, for those who wait behind.
func (k *keyGate) note(c gate.Cause) {
	k.mu.Lock()
	k.refused = c
	k.mu.Unlock()
}

func (k *keyGate) cause() gate.Cause {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.refused
}
