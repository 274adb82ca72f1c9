package scheduler

import (
	"slices"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

// pauses returns a set of pauses from patterns, without an end if they have no time.
func pauses(t testing.TB, until map[string]time.Time) *Pauses {
	t.Helper()
	var all []events.Pause
	for text, end := range until {
		p, err := events.ParsePattern(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, events.Pause{Pattern: p, At: now, Until: end})
	}
	return NewPauses(all)
}

// enter asks for a pass and returns the cause for which there is none.
func enter(t testing.TB, g *Gates, op *events.Operation, at time.Time) gate.Cause {
	t.Helper()
	pol := usual()
	pol.RespectGlobalBackpressure = false
	pass, shut, err := g.Enter(t.Context(), &pol, op, "target", at)
	switch {
	case err != nil:
		t.Fatal(err)
	case shut != nil:
		return shut.Cause
	}
	pass.Done(gate.Unused, 0, at)
	return ""
}

func operation(service, operation string, p events.Priority) *events.Operation {
	return &events.Operation{Service: service, Operation: operation, Priority: p}
}

func TestGates_PauseHoldsWhateverElseIsSaid(t *testing.T) {
	clock := now
	g := NewGates(breaker.NewGroup(breaker.Config{}), GatesConfig{Now: func() time.Time { return clock }})
	critical := operation("billing", "charge", events.Critical)
	if got := enter(t, g, critical, now); got != "" {
		t.Fatalf("without a pause the gate is shut by %q", got)
	}
	g.SetPauses(pauses(t, map[string]time.Time{"bill*:*": {}}))
	if got := enter(t, g, critical, now); got != gate.CausePaused {
		t.Errorf("a critical operation of a paused key is held by %q, want paused", got)
	}
	if got := enter(t, g, operation("shop", "order", events.Normal), now); got != "" {
		t.Errorf("an operation of another key is held by %q", got)
	}
	if got, _ := g.Worst(1, now); len(got) != 1 || got[0].Cause != gate.CausePaused || !got[0].Shut {
		t.Errorf("the worst gate is %+v, want billing:charge, shut by the pause", got)
	}
	at, by := now.Add(-time.Hour), pauses(t, map[string]time.Time{"bill*:*": {}})
	by.all[0].At, by.all[0].By, by.all[0].Note = at, "ann", "the database is being moved"
	g.SetPauses(by)
	if got, _ := g.Worst(1, now); !got[0].Since.Equal(at) || got[0].Reason() != "ann has paused bill*: the database is being moved" {
		t.Errorf("it is shut since %v because %q, want since %v, when ann paused it", got[0].Since, got[0].Reason(), at)
	}
	pol := usual()
	q := g.Quota(&pol, "billing", "charge", events.Critical, now)
	if !q.Shut || q.Cause != gate.CausePaused || !q.Next.IsZero() {
		t.Errorf("the quota is %+v, want shut by the pause, with no time", q)
	}
}

func TestGates_PauseEndsByTheClock(t *testing.T) {
	g := NewGates(breaker.NewGroup(breaker.Config{}), GatesConfig{Now: func() time.Time { return now }})
	op := operation("billing", "charge", events.Normal)
	end := now.Add(time.Minute)
	g.SetPauses(pauses(t, map[string]time.Time{"billing": end, "billing:charge": end.Add(-time.Second)}))
	pol := usual()
	if q := g.Quota(&pol, "billing", "charge", events.Normal, now); !q.Next.Equal(end) {
		t.Errorf("the gate opens at %v, want the end of the later pause, %v", q.Next, end)
	}
	if got := enter(t, g, op, end.Add(-1)); got != gate.CausePaused {
		t.Errorf("right before the end the operation is held by %q, want paused", got)
	}
	if got := enter(t, g, op, end); got != "" {
		t.Errorf("at the end the operation is held by %q", got)
	}
}

func TestGates_EndOfAPauseWakesItsKeysOnly(t *testing.T) {
	var opened []string
	clock := now
	g := NewGates(breaker.NewGroup(breaker.Config{}), GatesConfig{
		Now: func() time.Time { return clock }, Opened: func(key string) { opened = append(opened, key) },
	})
	for _, op := range []string{"charge", "refund", "void"} {
		enter(t, g, operation("billing", op, events.Normal), now)
	}
	later, end := now.Add(time.Hour), now.Add(time.Minute)
	check := func(what string, set map[string]time.Time, want ...string) {
		t.Helper()
		opened = nil
		g.SetPauses(pauses(t, set))
		if slices.Sort(opened); !slices.Equal(opened, want) {
			t.Errorf("%s: %v are woken, want %v", what, opened, want)
		}
	}
	check("the first pause", map[string]time.Time{"billing": {}})
	check("a service that gives way to a key", map[string]time.Time{"billing:charge": {}}, "billing:refund", "billing:void")
	check("a pause of the same key twice", map[string]time.Time{"billing:charge": {}, "billing:c*": {}})
	check("a pause that gets an end", map[string]time.Time{"billing:charge": later}, "billing:charge")
	check("an earlier end", map[string]time.Time{"billing:charge": end}, "billing:charge")
	clock = end
	check("none any more, after the end", nil, "billing:charge")
}

func TestGates_PausedKeyIsNotForgotten(t *testing.T) {
	g := NewGates(breaker.NewGroup(breaker.Config{}), GatesConfig{Now: func() time.Time { return now }})
	enter(t, g, operation("billing", "charge", events.Normal), now)
	enter(t, g, operation("shop", "order", events.Normal), now)
	g.SetPauses(pauses(t, map[string]time.Time{"billing": {}}))
	later := now.Add(48 * time.Hour)
	if n := g.Forget(later, later); n != 1 || g.known("billing:charge") == nil {
		t.Errorf("%d gates are forgotten, want that of shop:order only", n)
	}
}
