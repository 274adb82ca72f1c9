package storetest

import (
	"fmt"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/rebound-mq/rebound/breaker"
)

// DrawSettings draws small settings, so that much happens.
func DrawSettings(t *rapid.T) breaker.Settings {
	return breaker.Settings{
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

// likely returns kinds of events, repeating those that have an effect on c.
func likely(c *breaker.Circuit) []breaker.Kind {
	kinds := []breaker.Kind{breaker.Report, breaker.Acquire, breaker.Return, breaker.Trip, breaker.Hold, breaker.Reset, breaker.Rejoin, breaker.Rejoin}
	switch {
	case c.Held:
		return append(kinds, slices.Repeat([]breaker.Kind{breaker.Reset}, 6)...)
	case c.State == breaker.Closed:
		return append(kinds, slices.Repeat([]breaker.Kind{breaker.Report}, 12)...)
	case c.State == breaker.Open:
		return append(kinds, slices.Repeat([]breaker.Kind{breaker.Acquire}, 6)...)
	default:
		return append(kinds, slices.Repeat([]breaker.Kind{breaker.Acquire, breaker.Return, breaker.Return}, 8)...)
	}
}

// DrawTime draws the time of the next event: often the NextAttemptTime of an open circuit, rarely
// a time before now.
func DrawTime(t *rapid.T, c *breaker.Circuit, now time.Time) time.Time {
	if c.NextAttemptTime.After(now) && rapid.Bool().Draw(t, "timeout over") {
		return c.NextAttemptTime
	}
	return now.Add(time.Duration(rapid.SampledFrom([]int{0, 0, 1, 2, 5, 10, 20, 40, -2}).Draw(t, "ms")) * time.Millisecond)
}

// DrawResults draws the results of some attempts.
func DrawResults(t *rapid.T) []breaker.Result {
	return rapid.SliceOfN(rapid.SampledFrom([]breaker.Result{breaker.Success, breaker.Success, breaker.Failure, breaker.Failure, breaker.Ignored, breaker.Unused}), 0, 6).Draw(t, "results")
}

// TallyOf sums up results that took took each. Their failures say so.
func TallyOf(results []breaker.Result, took time.Duration) breaker.Tally {
	var t breaker.Tally
	for _, r := range results {
		t.Add(breaker.Attempt{Result: r, Took: took, Error: "503: \"später\" als </" + took.String()}, false)
	}
	return t
}

// DrawEvent draws the next event for the circuit c; history are circuits with which an instance
// may rejoin. Probe ids are p0, p1 and so on.
func DrawEvent(t *rapid.T, c *breaker.Circuit, history []breaker.Circuit, probes int, now time.Time, s breaker.Settings) breaker.Event {
	generation := c.Generation - min(c.Generation, rapid.SampledFrom([]uint64{0, 0, 0, 0, 0, 0, 1}).Draw(t, "generations ago"))
	took := time.Duration(rapid.IntRange(0, 1000).Draw(t, "took")) * time.Millisecond
	probe := func() string {
		ids := []string{fmt.Sprintf("p%d", rapid.IntRange(0, max(probes-1, 0)).Draw(t, "any probe"))}
		for _, p := range c.Probes {
			ids = append(ids, p.ID, p.ID, p.ID)
		}
		return rapid.SampledFrom(ids).Draw(t, "probe")
	}
	e := breaker.Event{
		By: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "by"), Generation: generation,
		Operator: rapid.SampledFrom([]string{"", "ann"}).Draw(t, "operator"), Note: rapid.SampledFrom([]string{"", "why"}).Draw(t, "note"),
	}
	e.Kind = rapid.SampledFrom(likely(c)).Draw(t, "kind")
	switch e.Kind {
	case breaker.Report:
		e.Tally = TallyOf(DrawResults(t), took)
	case breaker.Acquire:
		e.Probe = fmt.Sprintf("p%d", probes)
	case breaker.Return:
		e.Probe, e.Took, e.Error = probe(), took, rapid.SampledFrom([]string{"", "504: slow"}).Draw(t, "error")
		e.Result = rapid.SampledFrom([]breaker.Result{breaker.Success, breaker.Success, breaker.Failure, breaker.Ignored, breaker.Unused}).Draw(t, "result")
	case breaker.Trip:
		e.For = time.Duration(rapid.IntRange(0, 100).Draw(t, "for")) * time.Millisecond
	case breaker.Rejoin:
		mine := rapid.SampledFrom(history).Draw(t, "mine")
		alone := breaker.Event{Kind: rapid.SampledFrom([]breaker.Kind{breaker.Report, breaker.Report, breaker.Trip, breaker.Reset}).Draw(t, "alone"), Generation: mine.Generation, Operator: e.Operator}
		alone.Tally = TallyOf(DrawResults(t), took)
		mine, _ = breaker.Step(mine, alone, now, s)
		e.Circuit, e.Tally = &mine, TallyOf(DrawResults(t), took)
		e.Returned, e.Diverged = []string{probe()}, rapid.Bool().Draw(t, "diverged")
	case breaker.Hold, breaker.Reset:
	}
	return e
}
