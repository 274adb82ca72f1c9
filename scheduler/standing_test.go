package scheduler

import (
	"slices"
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
	g.SetHeld("pay", "refund", gate.Lengths{3}, now)

	check := func(want map[string]KeyReport) {
		t.Helper()
		got := make(map[string]KeyReport)
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
	refund := KeyReport{Shut: true, Cause: gate.CauseBreaker, Held: 3}
	check(map[string]KeyReport{"pay:charge": {Report: gate.Report{InFlight: 1}}, "pay:refund": refund})
	pass.Done(gate.Success, time.Millisecond, now)
	check(map[string]KeyReport{"pay:charge": {}, "pay:refund": refund})
}

func TestStandings_ATurnedAwayKeySaysSinceWhenAndIsToldOfOnce(t *testing.T) {
	begin := time.Unix(1000, 0)
	breakers := breaker.NewGroup(breaker.Config{})
	var told []gate.Cause
	g := NewGates(breakers, GatesConfig{Shut: func(_ string, c gate.Cause, _ string) { told = append(told, c) }})
	pol := policy.Builtin().Resolve(policy.Query{Service: "pay", Operation: "charge"})
	pol.EnableCircuitBreaker = true
	if _, err := breakers.Hold(t.Context(), "pay:charge", breaker.Operator{}); err != nil {
		t.Fatal(err)
	}
	for _, after := range []time.Duration{0, 5 * time.Second, 15 * time.Second, time.Minute} {
		now := begin.Add(after)
		if _, shut, err := g.Enter(t.Context(), &pol, &events.Operation{Service: "pay", Operation: "charge"}, "pay.charge", now); err != nil || shut == nil {
			t.Fatalf("entering a gate whose breaker is held open: shut by %v, %v; want it shut", shut, err)
		}
		want, times := begin, 1
		if after == time.Minute {
			want, times = now, 2 // nothing was turned away for long
		}
		if r := g.Standings(now)[0]; !r.Since.Equal(want) || len(told) != times || r.Reason() == "" {
			t.Errorf("after %v it is shut since %v because %q and was told of %d times, want since %v and %d", after, r.Since, r.Reason(), len(told), want, times)
		}
	}
}

func TestStandings_TellOfTheOneOperationWhoseTargetIsAbsent(t *testing.T) {
	begin := time.Unix(1000, 0)
	told := 0
	g := NewGates(breaker.NewGroup(breaker.Config{}), GatesConfig{MostProbers: 1, Now: func() time.Time { return begin }, Shut: func(_ string, c gate.Cause, subject string) {
		if told++; c != gate.CauseAbsent || subject != "pay.charge" {
			t.Errorf("told of %s for %s, want absent for pay.charge", c, subject)
		}
	}})
	pol := policy.Builtin().Resolve(policy.Query{Service: "pay", Operation: "charge"})
	op := &events.Operation{Service: "pay", Operation: "charge"}
	for now := begin; now.Sub(begin) < 3*time.Second; now = now.Add(500 * time.Millisecond) {
		pass, shut, err := g.Enter(t.Context(), &pol, op, "pay.charge", now)
		if err != nil || shut != nil {
			t.Fatalf("the prober asks after %v: shut by %v, %v; want a pass", now.Sub(begin), shut, err)
		}
		pass.Missed(now)
		r := g.Standings(now)[0]
		if r.Cause != gate.CauseAbsent || !r.Shut || r.HeldUp() != 1 || !r.Since.Equal(begin) || !r.Next.After(now) {
			t.Errorf("after %v: %s, shut %v, %d held up since %v, next %v; want absent, true, 1 since %v", now.Sub(begin), r.Cause, r.Shut, r.HeldUp(), r.Since, r.Next, begin)
		}
		if worst, _ := g.Worst(1, now); len(worst) != 1 {
			t.Errorf("after %v %d gates are listed, want 1", now.Sub(begin), len(worst))
		}
		if want := min(1, int(now.Sub(begin)/time.Second)); told != want {
			t.Errorf("after %v it was told %d times that operations are held, want %d", now.Sub(begin), told, want)
		}
	}
}

func TestStandings_ABreakerThatAnOperatorOpenedSaysWho(t *testing.T) {
	now := time.Unix(1000, 0)
	breakers := breaker.NewGroup(breaker.Config{Now: func() time.Time { return now }})
	g := NewGates(breakers, GatesConfig{})
	pol := policy.Builtin().Resolve(policy.Query{Service: "pay", Operation: "charge"})
	if _, err := breakers.Hold(t.Context(), "pay:charge", breaker.Operator{Name: "ann", Note: "the database is being moved"}); err != nil {
		t.Fatal(err)
	}
	if _, shut, err := g.Enter(t.Context(), &pol, &events.Operation{Service: "pay", Operation: "charge"}, "pay.charge", now); err != nil || shut == nil {
		t.Fatalf("entering a gate whose breaker is held open: shut by %v, %v; want it shut", shut, err)
	}
	const want = "its circuit breaker is not closed: held by ann: the database is being moved"
	if r := g.Standings(now)[0]; r.Reason() != want {
		t.Errorf("it is shut because %q, want %q", r.Reason(), want)
	}
}

func TestGates_TellOfASpentBudgetAndNotOfAPace(t *testing.T) {
	now := time.Unix(1000, 0)
	var told []gate.Cause
	g := NewGates(breaker.NewGroup(breaker.Config{}), GatesConfig{Shut: func(_ string, c gate.Cause, _ string) { told = append(told, c) }})
	pol := policy.Builtin().Resolve(policy.Query{Service: "pay", Operation: "charge"})
	pol.RetryBudgetPerMinute = 5
	for _, c := range []gate.Cause{gate.CauseGovernor, gate.CauseConcurrency, gate.CauseThreshold, gate.CauseBudgetShare, gate.CauseBudgetPerMinute} {
		now = now.Add(time.Hour)
		k := g.of(&pol, "pay:"+string(c))
		g.turnAway(k, c, "pay.charge", now)
		k.release()
	}
	if want := []gate.Cause{gate.CauseBudgetPerMinute, gate.CauseBudgetPerMinute}; !slices.Equal(told, want) {
		t.Errorf("told of %v, want %v: of the budget, by whatever limit an instance met it", told, want)
	}
}
