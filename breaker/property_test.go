package breaker

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// drawSettings draws settings that are small, so that much happens.
func drawSettings(t *rapid.T) Settings {
	return Settings{
		Threshold:           rapid.SampledFrom([]int{1, 2, 3, 5, 1000}).Draw(t, "threshold"),
		Timeout:             time.Duration(rapid.IntRange(1, 50).Draw(t, "timeout")) * time.Millisecond,
		FailureRate:         rapid.SampledFrom([]float64{0, 0.25, 0.5, 1}).Draw(t, "rate"),
		Window:              time.Duration(rapid.IntRange(1, 20).Draw(t, "window")) * 10 * time.Millisecond,
		MinimumCalls:        rapid.SampledFrom([]int{1, 5, 10, 1000}).Draw(t, "minimum"),
		HalfOpenMaxRequests: rapid.IntRange(1, 3).Draw(t, "probes"),
		HalfOpenSuccesses:   rapid.IntRange(1, 4).Draw(t, "successes"),
		ProbeLease:          time.Duration(rapid.IntRange(1, 50).Draw(t, "lease")) * time.Millisecond,
	}
}

// likely are kinds of events, those more often that do something to c.
func likely(c *Circuit) []Kind {
	kinds := []Kind{Report, Acquire, Return, Trip, Hold, Reset, Rejoin, Rejoin}
	switch {
	case c.Held:
		return append(kinds, slices.Repeat([]Kind{Reset}, 6)...)
	case c.State == Closed:
		return append(kinds, slices.Repeat([]Kind{Report}, 12)...)
	case c.State == Open:
		return append(kinds, slices.Repeat([]Kind{Acquire}, 6)...)
	default:
		return append(kinds, slices.Repeat([]Kind{Acquire, Return, Return}, 8)...)
	}
}

// drawTime draws the time of the next event, which often is when an open circuit
// lets probes through, and rarely is before now.
func drawTime(t *rapid.T, c *Circuit, now time.Time) time.Time {
	if c.NextAttemptTime.After(now) && rapid.Bool().Draw(t, "timeout over") {
		return c.NextAttemptTime
	}
	return now.Add(time.Duration(rapid.SampledFrom([]int{0, 0, 1, 2, 5, 10, 20, 40, -2}).Draw(t, "ms")) * time.Millisecond)
}

func drawResults(t *rapid.T) []Result {
	return rapid.SliceOfN(rapid.SampledFrom([]Result{Success, Success, Failure, Failure, Ignored, Unused}), 0, 6).Draw(t, "results")
}

func tallyOf(results []Result, took time.Duration) Tally {
	var t Tally
	for _, r := range results {
		t.Add(r, took, false)
	}
	return t
}

// draw draws the next event for a circuit that has become c; history are circuits
// from which an instance may return. Probe ids are p0, p1 and so on.
func draw(t *rapid.T, c *Circuit, history []Circuit, probes int, now time.Time, s Settings) Event {
	generation := c.Generation - min(c.Generation, rapid.SampledFrom([]uint64{0, 0, 0, 0, 0, 0, 1}).Draw(t, "generations ago"))
	took := time.Duration(rapid.IntRange(0, 1000).Draw(t, "took")) * time.Millisecond
	probe := func() string {
		ids := []string{fmt.Sprintf("p%d", rapid.IntRange(0, max(probes-1, 0)).Draw(t, "any probe"))}
		for _, p := range c.Probes {
			ids = append(ids, p.ID, p.ID, p.ID)
		}
		return rapid.SampledFrom(ids).Draw(t, "probe")
	}
	e := Event{By: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "by"), Generation: generation}
	e.Kind = rapid.SampledFrom(likely(c)).Draw(t, "kind")
	switch e.Kind {
	case Report:
		e.Tally = tallyOf(drawResults(t), took)
	case Acquire:
		e.Probe = fmt.Sprintf("p%d", probes)
	case Return:
		e.Probe, e.Took = probe(), took
		e.Result = rapid.SampledFrom([]Result{Success, Success, Failure, Ignored, Unused}).Draw(t, "result")
	case Trip:
		e.For = time.Duration(rapid.IntRange(0, 100).Draw(t, "for")) * time.Millisecond
	case Rejoin:
		mine := rapid.SampledFrom(history).Draw(t, "mine")
		alone := Event{Kind: rapid.SampledFrom([]Kind{Report, Report, Trip, Reset}).Draw(t, "alone"), Generation: mine.Generation}
		alone.Tally = tallyOf(drawResults(t), took)
		mine, _ = Step(mine, alone, now, s)
		e.Circuit, e.Tally = &mine, tallyOf(drawResults(t), took)
		e.Returned, e.Diverged = []string{probe()}, rapid.Bool().Draw(t, "diverged")
	case Hold, Reset:
	}
	return e
}

// Whatever happens: no more probes in flight than may be, none let through while
// it is open, and totals, generations and times that only grow.
func TestStepKeepsItsInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, now := drawSettings(t), start
		c := NewCircuit("k")
		c.Version = 1
		history := []Circuit{c}
		inFlight := map[string]time.Time{} // our own account of the probes
		probes := 0
		t.Repeat(map[string]func(*rapid.T){
			"time": func(t *rapid.T) { now = latest(now, drawTime(t, &c, now)) },
			"event": func(t *rapid.T) {
				e := draw(t, &c, history, probes, now, s)
				if e.Kind == Rejoin {
					return // two instances that were parted may have more in flight together
				}
				before := c.clone()
				next, effect := Step(c, e, now, s)
				if !slices.Equal(c.Probes, before.Probes) || !slices.Equal(c.Window, before.Window) {
					t.Fatalf("the step changed the circuit that it was given: %+v, want %+v", c, before)
				}
				checkStep(t, before, next, e, effect, now, s)
				if effect.Probe != "" {
					inFlight[effect.Probe] = now.Add(s.ProbeLease)
					probes++
				}
				if e.Kind == Return {
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

func checkStep(t *rapid.T, before, after Circuit, e Event, effect Effect, now time.Time, s Settings) {
	t.Helper()
	if effect.Granted {
		switch {
		case e.Kind != Acquire:
			t.Fatalf("a %s was granted a permit", e.Kind)
		case before.Held, before.State == Open && now.Before(before.NextAttemptTime):
			t.Fatalf("a permit was granted while the breaker was open until %v, at %v", before.NextAttemptTime, now)
		case effect.Probe == "" && before.State != Closed:
			t.Fatalf("a permit without a probe was granted while the breaker was %v", before.State)
		}
	} else if e.Kind == Acquire && before.State == Closed {
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
	if after.State != Open && (after.Held || !after.NextAttemptTime.IsZero()) {
		t.Fatalf("a breaker that is %v is held or has a next attempt: %+v", after.State, after)
	}
	if after.State == Closed && after.FailureCount >= s.Threshold {
		t.Fatalf("a closed breaker has %d failures in a row, and its threshold is %d", after.FailureCount, s.Threshold)
	}
	if len(after.Window) > windowBuckets {
		t.Fatalf("the window has %d buckets", len(after.Window))
	}
}

// A tally does what its results would have done one by one.
func TestTallySumsUpItsResults(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSettings(t)
		s.FailureRate = 0
		first, second := drawResults(t), drawResults(t)
		one := NewCircuit("k")
		for _, r := range slices.Concat(first, second) {
			one, _ = Step(one, Event{Kind: Report, Generation: 1, Tally: tallyOf([]Result{r}, time.Second)}, start, s)
		}
		a, b := tallyOf(first, time.Second), tallyOf(second, time.Second)
		a.Merge(b)
		if whole := tallyOf(slices.Concat(first, second), time.Second); a != whole {
			t.Fatalf("merged tally is %+v, want %+v", a, whole)
		}
		all, _ := Step(NewCircuit("k"), Event{Kind: Report, Generation: 1, Tally: a}, start, s)
		if all.State != one.State || all.TotalRequests != one.TotalRequests || all.TotalFailures != one.TotalFailures {
			t.Fatalf("the tally leads to %v with %d/%d, its results one by one to %v with %d/%d",
				all.State, all.TotalFailures, all.TotalRequests, one.State, one.TotalFailures, one.TotalRequests)
		}
		if all.State == Closed && all.FailureCount != one.FailureCount {
			t.Fatalf("the tally leads to %d failures in a row, its results one by one to %d", all.FailureCount, one.FailureCount)
		}
	})
}

func TestRecordKeepsTheCircuit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, now := drawSettings(t), start
		c := NewCircuit("k")
		for i := range rapid.IntRange(0, 30).Draw(t, "events") {
			c, _ = Step(c, draw(t, &c, []Circuit{c}, i, now, s), now, s)
			now = now.Add(5 * time.Millisecond)
		}
		data, err := encode(&c)
		if err != nil {
			t.Fatal(err)
		}
		back, err := decode(data)
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := encode(&back); string(again) != string(data) {
			t.Fatalf("the record became %s, want %s", again, data)
		}
	})
}
