package scheduler

import (
	"fmt"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/gate"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

func TestGates_IdleKeysAreForgottenAndOthersNot(t *testing.T) {
	l := newLimitedGates(t, func(p *policy.Policy) { p.MaxConcurrentRetries, p.RetryBudgetPerMinute = 10, 100 })
	begin := time.Now()
	for i := range 1000 {
		l.pass(fmt.Sprintf("pay:op%d", i), begin)
	}
	// One has an operation in flight, one in a lane, one is used again, and one has a
	// budget that was not returned.
	busy, shut, err := l.Enter(t.Context(), l.policy, &events.Operation{Service: "pay", Operation: "op0"}, "target", begin)
	if err != nil || shut != nil {
		t.Fatalf("entering: shut by %v, %v", shut, err)
	}
	l.SetHeld("pay", "op1", gate.Lengths{1}, begin)
	later := begin.Add(time.Hour + time.Minute)
	for i := range 1000 {
		if i != 3 {
			l.serve(begin.Add(returnAfter), fmt.Sprintf("pay:op%d", i))
		}
	}
	l.pass("pay:op2", later)

	// Just after the return, the spent budgets of all but one are in the ledger.
	if n := l.Forget(begin.Add(time.Second), begin.Add(2*returnAfter)); n != 1000-4 {
		t.Errorf("%d gates are forgotten, want %d", n, 1000-4)
	}
	for i := range 4 {
		if l.known(fmt.Sprintf("pay:op%d", i)) == nil {
			t.Errorf("the gate of pay:op%d is forgotten, want it kept", i)
		}
	}
	if n := l.Forget(later.Add(-time.Hour), later); n != 1 || l.known("pay:op3") != nil {
		t.Errorf("%d gates are forgotten an hour later, want 1, whose budget counts no more", n)
	}
	busy.Done(gate.Success, time.Millisecond, later)
	if n := l.Active(); n != 0 {
		t.Errorf("%d attempts are in flight, want 0", n)
	}
	l.pass("pay:op999", later)
}

// TestGates_KeyWhoseLeaseNeverCameIsForgotten lets the lanes of a key ask its gate, and
// nobody after that.
func TestGates_KeyWhoseLeaseNeverCameIsForgotten(t *testing.T) {
	l := newLimitedGates(t, func(p *policy.Policy) { p.MaxConcurrentRetries = 10 })
	begin := time.Now()
	l.Quota(l.policy, "pay", "charge", events.Normal, begin)
	if n := l.Forget(begin.Add(1), begin.Add(leaseWait/2)); n != 0 {
		t.Errorf("%d gates are forgotten that wait for a lease, want none", n)
	}
	if n := l.Forget(begin.Add(1), begin.Add(time.Hour)); n != 1 {
		t.Errorf("%d gates are forgotten whose lease never came, want 1", n)
	}
}

func TestGates_SpentBudgetOfAForgottenKeyIsFoundAgain(t *testing.T) {
	l := newLimitedGates(t, func(p *policy.Policy) { p.RetryBudgetPerHour = 3 })
	begin := time.Now()
	for range 3 {
		l.pass("pay:charge", begin)
	}
	l.serve(begin.Add(returnAfter), "pay:charge")
	now := begin.Add(time.Minute)
	if n := l.Forget(now.Add(-time.Second), now); n != 1 {
		t.Fatalf("%d gates are forgotten, want 1", n)
	}
	l.want(l.ofKey("pay:charge"), now)
	l.serve(now)
	_, shut, err := l.Enter(t.Context(), l.policy, &events.Operation{Service: "pay", Operation: "charge"}, "target", now)
	if err != nil || shut == nil {
		t.Errorf("a key that comes back passes (%v), want its spent budget to shut it", err)
	}
}

func TestGates_DependentsOfABreakerAreFoundByServiceAndKey(t *testing.T) {
	breakers := breaker.NewGroup(breaker.Config{})
	var opened []string
	g := NewGates(breakers, GatesConfig{Opened: func(key string) { opened = append(opened, key) }})
	now := time.Now()
	enter := func(operation string, dependsOn ...string) *Shut {
		t.Helper()
		policy := policy.Builtin().Resolve(policy.Query{Service: "shop", Operation: operation})
		policy.DependsOn = dependsOn
		pass, shut, err := g.Enter(t.Context(), &policy, &events.Operation{Service: "shop", Operation: operation}, "target", now)
		if err != nil {
			t.Fatal(err)
		}
		pass.Done(gate.Unused, 0, now)
		return shut
	}
	enter("byService", "pay")
	enter("byKey", "pay:charge")
	enter("other", "ship")
	c, err := breakers.Hold(t.Context(), "pay:charge", breaker.Operator{})
	if err != nil {
		t.Fatal(err)
	}
	g.Changed(breaker.Change{Key: c.ServiceKey, To: c.State})
	if len(opened) != 2 {
		t.Errorf("%v are told that the breaker opened, want its two dependents", opened)
	}
	for operation, want := range map[string]struct {
		on   string
		shut bool
	}{"byService": {"pay", true}, "byKey": {"pay:charge", true}, "other": {"ship", false}} {
		if shut := enter(operation, want.on); (shut != nil) != want.shut {
			t.Errorf("the gate of %s is shut: %t, want %t", operation, shut != nil, want.shut)
		}
	}
	if shut := enter("byKey", "ship"); shut != nil {
		t.Errorf("a key that depends on something else now is shut by %s, want it open", shut.Cause)
	}
}

func TestGates_WorstAreListedAndTheOthersCounted(t *testing.T) {
	l := newLimitedGates(t, func(p *policy.Policy) { p.MaxConcurrentRetries = 10 })
	now := time.Now()
	for i := range 50 {
		operation := fmt.Sprintf("op%d", i)
		l.pass("pay:"+operation, now)
		if _, err := l.breakers.Hold(t.Context(), "pay:"+operation, breaker.Operator{}); err != nil {
			t.Fatal(err)
		}
		l.SetHeld("pay", operation, gate.Lengths{i}, now)
	}
	reports, counts := l.Worst(3, now)
	if len(reports) != 3 || reports[0].Key != "pay:op49" || reports[2].Key != "pay:op47" {
		t.Errorf("the worst are %+v, want those with the most operations held", reports)
	}
	if counts.All != 50 || counts.Shut != 50 || counts.Causes[gate.CauseBreaker] != 50 {
		t.Errorf("the counts are %+v, want 50 shut by their breakers", counts)
	}
}
