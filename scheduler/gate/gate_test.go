package gate

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
)

func TestGate_IsShutByItsCauses(t *testing.T) {
	shut := Bound{Limited: true, Next: at(30)}
	for name, c := range map[string]struct {
		settings   Settings
		entered    int // operations that went before and are in flight
		conditions Conditions
		want       Answer
	}{
		"nothing limits it":            {Settings{}, 0, Conditions{}, Answer{N: breaker.Unlimited}},
		"its breaker is open":          {Settings{}, 0, Conditions{Breaker: shut}, Answer{0, CauseBreaker, at(30)}},
		"its breaker lets probes":      {Settings{}, 0, Conditions{Breaker: Bound{Limited: true, N: 2}}, Answer{2, CauseBreaker, time.Time{}}},
		"a dependency is down":         {Settings{}, 0, Conditions{Dependencies: shut}, Answer{0, CauseDependency, at(30)}},
		"the later of two opens it":    {Settings{}, 0, Conditions{Breaker: shut, Dependencies: Bound{Limited: true, Next: at(40)}}, Answer{0, CauseBreaker, at(40)}},
		"there is room":                {Settings{MaxConcurrent: 5}, 3, Conditions{}, Answer{2, CauseConcurrency, time.Time{}}},
		"all places are taken":         {Settings{MaxConcurrent: 5}, 5, Conditions{}, Answer{0, CauseConcurrency, time.Time{}}},
		"the minute's budget is left":  {Settings{PerMinute: 5}, 1, Conditions{}, Answer{4, CauseBudgetPerMinute, time.Time{}}},
		"the minute's budget is spent": {Settings{PerMinute: 5, PerHour: 9}, 5, Conditions{}, Answer{0, CauseBudgetPerMinute, at(62)}},
		"the hour's budget is spent":   {Settings{PerMinute: 9, PerHour: 5}, 5, Conditions{}, Answer{0, CauseBudgetPerHour, at(62 * 60)}},
		"the tightest limit is named":  {Settings{MaxConcurrent: 9, PerMinute: 7}, 1, Conditions{}, Answer{6, CauseBudgetPerMinute, time.Time{}}},
		"the later of causes opens it": {Settings{MaxConcurrent: 5, PerMinute: 5}, 5, Conditions{}, Answer{0, CauseConcurrency, at(62)}},
	} {
		g := New(c.settings)
		for range c.entered {
			if _, a, ok := g.Enter(Conditions{}, at(0)); !ok {
				t.Fatalf("%s: an operation is refused, %+v", name, a)
			}
		}
		if got := g.Ready(c.conditions, at(0)); got.N != c.want.N || got.Cause != c.want.Cause || !got.Next.Equal(c.want.Next) {
			t.Errorf("%s: the answer is %+v, want %+v", name, got, c.want)
		}
		_, _, ok := g.Enter(c.conditions, at(0))
		if want := c.want.N > 0; ok != want {
			t.Errorf("%s: an operation passes: %t, want %t", name, ok, want)
		}
	}
}

func TestBound_IsJoinedToTheTighter(t *testing.T) {
	open, shut, later := Bound{Limited: true, N: 2}, Bound{Limited: true, Next: at(30)}, Bound{Limited: true, Next: at(40)}
	for name, c := range map[string]struct{ a, b, want Bound }{
		"nothing limits":             {Bound{}, Bound{}, Bound{}},
		"one limits":                 {Bound{}, open, open},
		"the fewer go":               {open, Bound{Limited: true, N: 5}, open},
		"the one that is shut shuts": {open, shut, shut},
		"the one that opens later":   {shut, later, later},
		"one that does not say when": {shut, Bound{Limited: true}, shut},
	} {
		for _, got := range []Bound{c.a.And(c.b), c.b.And(c.a)} {
			if got != c.want {
				t.Errorf("%s: the bound is %+v, want %+v", name, got, c.want)
			}
		}
	}
}

func TestPass_GivesItsPlaceBackButNotItsBudget(t *testing.T) {
	g := New(Settings{MaxConcurrent: 1, PerMinute: 2})
	pass, _, _ := g.Enter(Conditions{}, at(0))
	pass.Done(Unused, 0, at(1))
	if a := g.Ready(Conditions{}, at(1)); a.N != 1 {
		t.Errorf("after the pass is done %d may go, want 1", a.N)
	}
	pass, _, _ = g.Enter(Conditions{}, at(1))
	pass.Done(Success, time.Second, at(2))
	if a := g.Ready(Conditions{}, at(2)); a.N != 0 || a.Cause != CauseBudgetPerMinute {
		t.Errorf("after two operations %d may go by %q, want 0 by %q", a.N, a.Cause, CauseBudgetPerMinute)
	}
	Pass{}.Done(Success, 0, at(3)) // nothing, and no panic
}

func TestGate_NoticesThatTheBreakerClosed(t *testing.T) {
	g := New(Settings{})
	probes := Conditions{Breaker: Bounded(3, time.Time{})}
	closed := Conditions{Breaker: Bounded(breaker.Unlimited, time.Time{})}
	if g.Ready(closed, at(0)); g.Report().Governed {
		t.Fatal("before an outage the release is governed, want it free")
	}
	if a := g.Ready(probes, at(1)); a.N != 3 {
		t.Fatalf("a half-open breaker lets %d through, want its 3 probes", a.N)
	}
	a := g.Ready(closed, at(2))
	if a.N != 1 || a.Cause != CauseGovernor {
		t.Fatalf("when the breaker has closed %d may go by %q, want 1 by %q", a.N, a.Cause, CauseGovernor)
	}
	if r := g.Report(); !r.Governed || r.Rate != startRate {
		t.Errorf("the gate reports %+v, want it governed at %v a second", r, startRate)
	}
	if g.Ready(closed, at(3)); !g.governor.healed.Equal(at(2)) {
		t.Error("slow start began again though the breaker stayed closed")
	}
}

func TestGate_TakesTheInstancesOwnDelayForNoCongestion(t *testing.T) {
	for name, tc := range map[string]struct {
		own     time.Duration
		congest bool
	}{
		"a busy instance": {180 * time.Millisecond, false},
		"a slow target":   {5 * time.Millisecond, true},
	} {
		g := New(Settings{})
		now := at(0)
		attempts := func(n int, took, own time.Duration) {
			for range n {
				now = now.Add(10 * time.Millisecond)
				pass, _, ok := g.Enter(Conditions{}, now)
				if !ok {
					return
				}
				pass.Delayed(own).Done(Success, took, now)
			}
		}
		attempts(500, 20*time.Millisecond, time.Millisecond)
		attempts(1000, 200*time.Millisecond, tc.own)
		if got := g.Report().Governed; got != tc.congest {
			t.Errorf("%s: the governor is on: %t, want %t", name, got, tc.congest)
		}
		attempts(1000, 20*time.Millisecond, time.Millisecond)
		if got := g.Report().Governed; got && !tc.congest {
			t.Errorf("%s: when it is over the governor is on, want the baseline as it was", name)
		}
	}
}

func TestDelays_LargestOfTheLastCounts(t *testing.T) {
	var d Delays
	if d.Own() != 0 {
		t.Errorf("without a measurement the own delay is %v, want 0", d.Own())
	}
	d.Add(time.Second)
	for range delaySpan - 1 {
		d.Add(time.Millisecond)
	}
	if d.Own() != time.Second {
		t.Errorf("the own delay is %v, want the second among the last %d", d.Own(), delaySpan)
	}
	if d.Add(time.Millisecond); d.Own() != time.Millisecond {
		t.Errorf("after one more the own delay is %v, want 1ms", d.Own())
	}
}

func TestGate_BoundsBothKindsOfEarlyRelease(t *testing.T) {
	g := New(Settings{MaxConcurrent: 4})
	g.Ready(Conditions{Breaker: Bound{Limited: true}}, at(0))
	for i := range 40 { // a target that answers well proves itself
		now := at(1 + float64(i)/10)
		if p, _, ok := g.Enter(Conditions{}, now); ok {
			p.Done(Success, 10*time.Millisecond, now.Add(10*time.Millisecond))
		}
	}
	ready := g.Ready(Conditions{}, at(6)).N
	for _, c := range []struct{ held, coming, want int }{{0, 0, ready}, {0, 1, ready - 1}, {0, 99, 0}, {3, 0, 0}} {
		if n, before := g.Early(Conditions{}, c.held, c.coming, at(6)); n != c.want || !before.Equal(at(1)) {
			t.Errorf("with %d held and %d coming, %d parked before %v may come, want %d before %v", c.held, c.coming, n, before, c.want, at(1))
		}
	}
}

func TestGate_LetsNoMoreThroughThanItsLimits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Settings{
			MaxConcurrent: rapid.IntRange(1, 20).Draw(t, "concurrent"),
			PerMinute:     rapid.IntRange(1, 100).Draw(t, "minute"), PerHour: rapid.IntRange(1, 200).Draw(t, "hour"),
		}
		g, now := New(s), begin
		var passes []Pass
		var taken []taking
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(5*time.Second)).Draw(t, "pause")))
			if len(passes) > 0 && rapid.Bool().Draw(t, "done") {
				r := Result(rapid.IntRange(0, int(Unused)).Draw(t, "result"))
				passes[0].Done(r, time.Millisecond, now)
				passes = passes[1:]
				continue
			}
			c := Conditions{Priority: events.Priorities[rapid.IntRange(0, 3).Draw(t, "priority")]}
			c.Breaker.Limited = rapid.IntRange(0, 9).Draw(t, "breaker") == 0
			ready := g.Ready(c, now)
			p, a, ok := g.Enter(c, now)
			if ok != (ready.N > 0) || a != ready {
				t.Fatalf("ready says %+v, and an operation is let through: %t, %+v", ready, ok, a)
			}
			if ok {
				passes = append(passes, p)
				taken = append(taken, taking{now, 1})
			}
			if len(passes) > s.MaxConcurrent {
				t.Fatalf("%d are in flight, want at most %d", len(passes), s.MaxConcurrent)
			}
		}
		if got := most(taken, time.Minute); got > s.PerMinute {
			t.Fatalf("%d went within a minute, want at most %d", got, s.PerMinute)
		}
		if got := most(taken, time.Hour); got > s.PerHour {
			t.Fatalf("%d went within an hour, want at most %d", got, s.PerHour)
		}
	})
}

func TestGate_AllocatesNothing(t *testing.T) {
	g := New(Settings{MaxConcurrent: 100, PerMinute: 1000, PerHour: 100_000})
	g.Ready(Conditions{Breaker: Bound{Limited: true}}, begin)
	now, entered := begin, 0
	decide := func() {
		now = now.Add(time.Second)
		for _, p := range events.Priorities {
			g.Ready(Conditions{Priority: p}, now)
			if pass, _, ok := g.Enter(Conditions{Priority: p}, now); ok {
				pass.Done(Success, time.Millisecond, now)
				entered++
			}
			g.Reserved(now)
		}
	}
	if allocs := testing.AllocsPerRun(1000, decide); allocs != 0 || entered == 0 {
		t.Errorf("a decision allocates %v times, %d entered; want never", allocs, entered)
	}
	entered = 0
	g.Share(Lease{Concurrent: 100, Budget: 500, Minute: 800, Hour: 90_000, Given: now, Until: now.Add(time.Hour), Instances: 2, Granted: true})
	if allocs := testing.AllocsPerRun(1000, decide); allocs != 0 || entered == 0 {
		t.Errorf("a decision under a lease allocates %v times, %d entered; want never", allocs, entered)
	}
}
