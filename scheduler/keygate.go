package scheduler

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

// maxWaiting is how many operations may wait at a gate that is about to open.
const maxWaiting = 256

// keyGate is the gate of one key with the operations that wait for a moment there.
type keyGate struct {
	key  string
	gate *gate.Gate

	mu        sync.Mutex // guards what follows
	settings  gate.Settings
	dependsOn []string
	waiters   []*waiter // the next to go first
	refused   gate.Cause
	used      time.Time // when an operation came last
	held      int       // how many are in the lanes, as far as this instance knows
	renewed   time.Time // when the last lease came
	until     time.Time // when it ends, or the wait for one
}

// waiter is one operation that waits.
type waiter struct {
	priority events.Priority
	turn     chan struct{} // full when it is to look again
}

// set puts the settings of a policy in force.
func (k *keyGate) set(policy *Policy) {
	s := policy.Gate()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.dependsOn = policy.DependsOn
	if k.settings != s {
		k.settings = s
		k.gate.Set(s)
	}
}

func (k *keyGate) dependencies() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.dependsOn
}

// first tells whether nobody goes before w, or before a newcomer when w is nil.
func (k *keyGate) first(w *waiter, p events.Priority) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if w != nil {
		return k.waiters[0] == w
	}
	return len(k.waiters) == 0 || before(p, k.waiters[0].priority)
}

// before tells whether p is more urgent than q.
func before(p, q events.Priority) bool {
	return slices.Index(events.Priorities[:], p) < slices.Index(events.Priorities[:], q)
}

// join lets an operation wait. It returns nil when too many do.
func (k *keyGate) join(p events.Priority) *waiter {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.waiters) >= maxWaiting {
		return nil
	}
	at := slices.IndexFunc(k.waiters, func(w *waiter) bool { return before(p, w.priority) })
	if at < 0 {
		at = len(k.waiters)
	}
	w := &waiter{priority: p, turn: make(chan struct{}, 1)}
	k.waiters = slices.Insert(k.waiters, at, w)
	return w
}

// leave ends the wait of w, which may be nil. The next has its turn.
func (k *keyGate) leave(w *waiter) {
	if w == nil {
		return
	}
	k.mu.Lock()
	i := slices.Index(k.waiters, w)
	k.waiters = slices.Delete(k.waiters, i, i+1)
	k.mu.Unlock()
	if i == 0 {
		k.wake()
	}
}

// wake lets the first that waits look again.
func (k *keyGate) wake() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.waiters) > 0 {
		select {
		case k.waiters[0].turn <- struct{}{}:
		default:
		}
	}
}

// wait returns when it is worth while to look again, or with the error of ctx.
func (w *waiter) wait(ctx context.Context, most time.Duration) error {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-w.turn:
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
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
