package scheduler

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/gate"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// reserving are gates of one instance whose only key may have one operation in flight and a
// budget a minute.
type reserving struct {
	*Gates
	t      *testing.T
	policy policy.Policy
}

func newReserving(t *testing.T, concurrent, perMinute int) *reserving {
	t.Helper()
	r := &reserving{t: t, policy: policy.Builtin().Resolve(policy.Query{Service: "pay", Operation: "charge"})}
	r.policy.EnableCircuitBreaker, r.policy.MaxConcurrentRetries, r.policy.RetryBudgetPerMinute = false, concurrent, perMinute
	r.Gates = NewGates(breaker.NewGroup(breaker.Config{}), GatesConfig{})
	return r
}

// enter asks for one attempt; shut is empty if it may be made.
func (r *reserving) enter(p events.Priority) (pass Pass, shut gate.Cause) {
	pass, s, err := r.Enter(r.t.Context(), &r.policy, &events.Operation{Service: "pay", Operation: "charge", Priority: p}, "target", time.Now())
	if err != nil {
		r.t.Errorf("entering: %v", err)
	}
	if s != nil {
		return pass, s.Cause
	}
	return pass, ""
}

func (r *reserving) pass(p events.Priority) {
	r.t.Helper()
	pass, shut := r.enter(p)
	if shut != "" {
		r.t.Fatalf("an operation of priority %s is shut out by %q, want a pass", p, shut)
	}
	pass.Done(gate.Success, time.Millisecond, time.Now())
}

func TestQueue_PassesOverWhomTheReserveRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReserving(t, 1, 4)
		r.pass(events.Low)
		busy, _ := r.enter(events.Normal)
		// A low one has its turn before it is known that a critical one comes.
		low, critical := make(chan gate.Cause, 1), make(chan gate.Cause, 1)
		go func() {
			_, shut := r.enter(events.Low)
			low <- shut
		}()
		synctest.Wait()
		go func() {
			pass, shut := r.enter(events.Critical)
			if shut == "" {
				pass.Done(gate.Success, time.Millisecond, time.Now())
			}
			critical <- shut
		}()
		synctest.Wait()
		busy.Done(gate.Success, time.Millisecond, time.Now())
		if shut := <-critical; shut != "" {
			t.Errorf("the critical one is shut out by %q, want it to go", shut)
		}
		if shut := <-low; shut != gate.CauseBudgetPerMinute {
			t.Errorf("the low one ends by %q, want %q", shut, gate.CauseBudgetPerMinute)
		}
	})
}

func TestQuota_OfLessUrgentLanesIsWhatTheReserveLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReserving(t, 0, 40)
		for _, p := range events.Priorities {
			r.pass(p) // or its guaranteed one would go beside the reserve
		}
		for p, want := range map[events.Priority]int{events.Critical: 36, events.High: 32, events.Normal: 26, events.Low: 16} {
			if q := r.Quota(&r.policy, "pay", "charge", p, time.Now()); q.N != want || q.Shut {
				t.Errorf("of 36 left the lane of %s may let out %d, shut: %t; want %d", p, q.N, q.Shut, want)
			}
		}
		for range 16 {
			r.pass(events.Critical)
		}
		q := r.Quota(&r.policy, "pay", "charge", events.Low, time.Now())
		if !q.Shut || q.Cause != gate.CauseBudgetPerMinute || q.Next.Before(time.Now()) {
			t.Errorf("of half left the lane of low is shut: %t, by %q until %v; want it shut by %q", q.Shut, q.Cause, q.Next, gate.CauseBudgetPerMinute)
		}
		if q := r.Quota(&r.policy, "pay", "charge", events.Critical, time.Now()); q.N != 20 {
			t.Errorf("of half left the lane of critical may let out %d, want all 20", q.N)
		}
	})
}

func TestStandings_ReserveThatHoldsNothingIsNotShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReserving(t, 0, 20)
		r.pass(events.Normal)
		for range 16 {
			r.pass(events.Critical)
		}
		if got := r.Standings(time.Now())[0]; got.Shut {
			t.Errorf("a key with 3 of its budget left is shut by %q, want it open: nothing of normal priority is held", got.Cause)
		}
		if _, shut := r.enter(events.Normal); shut != gate.CauseBudgetPerMinute {
			t.Errorf("a normal one is shut out by %q, want %q", shut, gate.CauseBudgetPerMinute)
		}
		r.SetHeld("pay", "charge", gate.Lengths{events.Normal: 1}, time.Now())
		if got := r.Standings(time.Now())[0]; !got.Shut || got.Cause != gate.CauseBudgetPerMinute || got.Held != 1 {
			t.Errorf("with a normal one held the key is shut: %t, by %q, %d held; want it shut by %q with 1", got.Shut, got.Cause, got.Held, gate.CauseBudgetPerMinute)
		}
	})
}
