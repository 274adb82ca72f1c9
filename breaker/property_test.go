package breaker_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/breaker/internal/storetest"
)

// For any sequence of events, there are never more probes in flight than allowed, an open breaker
// grants none, and totals, generations and times only grow.
func TestStep_KeepsItsInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, now := storetest.DrawSettings(t), storetest.Start
		c := breaker.NewCircuit("k")
		c.Version = 1
		history := []breaker.Circuit{c}
		inFlight := map[string]time.Time{} // the test's own record of the probes
		probes := 0
		t.Repeat(map[string]func(*rapid.T){
			"time": func(t *rapid.T) { now = latest(now, storetest.DrawTime(t, &c, now)) },
			"event": func(t *rapid.T) {
				e := storetest.DrawEvent(t, &c, history, probes, now, s)
				if e.Kind == breaker.Rejoin {
					return // two detached instances may exceed the bound together
				}
				before := c.Clone()
				next, effect := breaker.Step(c, e, now, s)
				if !slices.Equal(c.Probes, before.Probes) || !slices.Equal(c.Window, before.Window) {
					t.Fatalf("the step changed the circuit that it was given: %+v, want %+v", c, before)
				}
				checkStep(t, before, next, e, effect, now, s)
				if effect.Probe != "" {
					inFlight[effect.Probe] = now.Add(s.ProbeLease)
					probes++
				}
				if e.Kind == breaker.Return {
					delete(inFlight, e.Probe)
				}
				flying := 0
				for _, expires := range inFlight {
					if expires.After(now) {
						flying++
					}
				}
				if flying > s.HalfOpenMaxRequests {
					t.Fatalf("%d probes are in flight, want at most %d", flying, s.HalfOpenMaxRequests)
				}
				c = next
				history = append(history, c)
			},
		})
	})
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func checkStep(t *rapid.T, before, after breaker.Circuit, e breaker.Event, effect breaker.Effect, now time.Time, s breaker.Settings) {
	t.Helper()
	if effect.Granted {
		switch {
		case e.Kind != breaker.Acquire:
			t.Fatalf("a %s was granted a permit", e.Kind)
		case before.Held, before.State == breaker.Open && now.Before(before.NextAttemptTime):
			t.Fatalf("a permit was granted while the breaker was open until %v, at %v", before.NextAttemptTime, now)
		case effect.Probe == "" && before.State != breaker.Closed:
			t.Fatalf("a permit without a probe was granted while the breaker was %v", before.State)
		}
	} else if e.Kind == breaker.Acquire && before.State == breaker.Closed {
		t.Fatalf("a closed breaker refused a permit")
	}
	if after.TotalRequests < before.TotalRequests || after.TotalFailures < before.TotalFailures || after.TotalFailures > after.TotalRequests {
		t.Fatalf("totals went from %d/%d to %d/%d", before.TotalFailures, before.TotalRequests, after.TotalFailures, after.TotalRequests)
	}
	if effect.Changed != (after.Generation == before.Generation+1) || after.Generation < before.Generation {
		t.Fatalf("the generation went from %d to %d, and changed is %v", before.Generation, after.Generation, effect.Changed)
	}
	if after.State != before.State && !effect.Changed {
		t.Fatalf("the state went from %v to %v, and changed is false", before.State, after.State)
	}
	if after.State != breaker.Open && (after.Held || !after.NextAttemptTime.IsZero()) {
		t.Fatalf("a breaker that is %v is held or has a next attempt: %+v", after.State, after)
	}
	if after.State == breaker.Closed && after.FailureCount >= s.Threshold {
		t.Fatalf("a closed breaker has %d failures in a row, and its threshold is %d", after.FailureCount, s.Threshold)
	}
	if len(after.Window) > 10 {
		t.Fatalf("the window has %d buckets", len(after.Window))
	}
}

// A tally has the effect of its results one by one.
func TestTally_SumsUpItsResults(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := storetest.DrawSettings(t)
		s.FailureRate = 0
		first, second := storetest.DrawResults(t), storetest.DrawResults(t)
		one := breaker.NewCircuit("k")
		for _, r := range slices.Concat(first, second) {
			one, _ = breaker.Step(one, breaker.Event{Kind: breaker.Report, Generation: 1, Tally: storetest.TallyOf([]breaker.Result{r}, time.Second)}, storetest.Start, s)
		}
		a, b := storetest.TallyOf(first, time.Second), storetest.TallyOf(second, time.Second)
		a.Merge(b)
		if whole := storetest.TallyOf(slices.Concat(first, second), time.Second); a != whole {
			t.Fatalf("merged tally is %+v, want %+v", a, whole)
		}
		all, _ := breaker.Step(breaker.NewCircuit("k"), breaker.Event{Kind: breaker.Report, Generation: 1, Tally: a}, storetest.Start, s)
		if all.State != one.State || all.TotalRequests != one.TotalRequests || all.TotalFailures != one.TotalFailures {
			t.Fatalf("the tally leads to %v with %d/%d, its results one by one to %v with %d/%d",
				all.State, all.TotalFailures, all.TotalRequests, one.State, one.TotalFailures, one.TotalRequests)
		}
		if all.State == breaker.Closed && all.FailureCount != one.FailureCount {
			t.Fatalf("the tally leads to %d failures in a row, its results one by one to %d", all.FailureCount, one.FailureCount)
		}
	})
}

func TestEncode_KeepsTheCircuit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, now := storetest.DrawSettings(t), storetest.Start
		c := breaker.NewCircuit("k")
		for i := range rapid.IntRange(0, 30).Draw(t, "events") {
			c, _ = breaker.Step(c, storetest.DrawEvent(t, &c, []breaker.Circuit{c}, i, now, s), now, s)
			now = now.Add(5 * time.Millisecond)
		}
		data, err := breaker.Encode(&c)
		if err != nil {
			t.Fatal(err)
		}
		back, err := breaker.Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := breaker.Encode(&back); string(again) != string(data) {
			t.Fatalf("the record became %s, want %s", again, data)
		}
	})
}
