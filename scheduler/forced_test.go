package scheduler

import (
	"testing"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

func TestGates_OperatorOpensABreakerThatThePolicyDoesNotHave(t *testing.T) {
	ctx := t.Context()
	breakers := breaker.NewGroup(breaker.Config{Now: func() time.Time { return now }})
	g := NewGates(breakers, GatesConfig{Now: func() time.Time { return now }})
	pol := usual()
	pol.EnableCircuitBreaker = false
	op := operation("pay", "charge", events.Critical)
	enter := func(at time.Time) (Pass, gate.Cause) {
		t.Helper()
		pass, shut, err := g.Enter(ctx, &pol, op, "target", at)
		if err != nil {
			t.Fatal(err)
		}
		if shut != nil {
			return pass, shut.Cause
		}
		return pass, ""
	}
	check := func(what string, at time.Time, want gate.Cause) Pass {
		t.Helper()
		pass, got := enter(at)
		if got != want {
			t.Errorf("%s: the gate is shut by %q, want %q", what, got, want)
		}
		if reported := g.report(g.known("pay:charge"), at); reported.Cause != want {
			t.Errorf("%s: the gate is reported as limited by %q, want %q", what, reported.Cause, want)
		}
		return pass
	}
	check("at first", now, "").Done(gate.Unused, 0, now)
	if _, err := breakers.Hold(ctx, "pay:charge", breaker.Operator{}); err != nil {
		t.Fatal(err)
	}
	check("held", now, gate.CauseBreaker)
	if _, err := breakers.Reset(ctx, "pay:charge", breaker.Operator{}); err != nil {
		t.Fatal(err)
	}
	// What an operator has reset says nothing against the policy.
	for i := range 20 {
		at := now.Add(time.Duration(i+1) * time.Minute)
		pass, _ := enter(at)
		pass.Done(gate.Failure, 0, at)
	}
	if b, _ := breakers.Lookup("pay:charge"); b.State() != breaker.Closed {
		t.Errorf("failures have opened the breaker of a policy that has none: %v", b.State())
	}
	if _, err := breakers.Trip(ctx, "pay:charge", time.Minute, breaker.Operator{}); err != nil {
		t.Fatal(err)
	}
	later := now.Add(time.Hour) // so that what failed before is out of the retry budget
	b, _ := breakers.Lookup("pay:charge")
	probe, cause := enter(later)
	if cause != "" || b.State() != breaker.HalfOpen {
		t.Fatalf("after the trip the gate is shut by %q and the breaker %v, want a probe", cause, b.State())
	}
	if _, cause := enter(later); cause != gate.CauseBreaker {
		t.Errorf("beside the probe the gate is shut by %q, want breaker", cause)
	}
	probe.Done(gate.Success, 0, later)
	for i := range 10 {
		at := later.Add(time.Duration(i+1) * time.Second)
		if pass, cause := enter(at); cause == "" {
			pass.Done(gate.Success, 0, at)
		}
	}
	if b.State() != breaker.Closed {
		t.Errorf("after probes that succeeded the breaker is %v, want CLOSED", b.State())
	}
}
