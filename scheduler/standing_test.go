package scheduler

import (
	"testing"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/gate"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

func TestStandings_TellOfEveryGate(t *testing.T) {
	ctx, now := t.Context(), time.Now()
	breakers := breaker.NewGroup(breaker.Config{})
	g := NewGates(breakers, GatesConfig{})
	policy := policy.Builtin().Resolve(policy.Query{Service: "pay", Operation: "charge"})
	policy.EnableCircuitBreaker = true

	busy := &events.Operation{Service: "pay", Operation: "charge"}
	pass, shut, err := g.Enter(ctx, &policy, busy, "target", now)
	if err != nil || shut != nil {
		t.Fatalf("entering an open gate: shut by %v, %v; want a pass", shut, err)
	}
	if _, err := breakers.Hold(ctx, "pay:refund", breaker.Operator{}); err != nil {
		t.Fatal(err)
	}
	if _, shut, err := g.Enter(ctx, &policy, &events.Operation{Service: "pay", Operation: "refund"}, "target", now); err != nil || shut == nil {
		t.Fatalf("entering a gate whose breaker is held open: shut by %v, %v; want it shut", shut, err)
	}
	g.SetHeld("pay", "refund", 3)

	check := func(want map[string]Standing) {
		t.Helper()
		got := make(map[string]Standing)
		for _, s := range g.Standings(now) {
			got[s.Key] = s
		}
		for key, w := range want {
			s, ok := got[key]
			if !ok || s.InFlight != w.InFlight || s.Held != w.Held || s.Shut != w.Shut || s.Cause != w.Cause {
				t.Errorf("the gate of %s stands at %+v (known: %t), want %d in flight, %d held, shut %t by %q", key, s, ok, w.InFlight, w.Held, w.Shut, w.Cause)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%d gates are listed, want %d", len(got), len(want))
		}
	}
	refund := Standing{KeyReport: KeyReport{Shut: true, Cause: gate.CauseBreaker}, Held: 3}
	check(map[string]Standing{"pay:charge": {KeyReport: KeyReport{Report: gate.Report{InFlight: 1}}}, "pay:refund": refund})
	pass.Done(gate.Success, time.Millisecond, now)
	check(map[string]Standing{"pay:charge": {}, "pay:refund": refund})
}
