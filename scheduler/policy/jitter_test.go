package policy

import (
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rebound-mq/rebound/events"
)

func TestJitter_HasItsExactBounds(t *testing.T) {
	const s = time.Second
	for _, tc := range []struct {
		jitter    Jitter
		previous  time.Duration
		low, high time.Duration
	}{
		{NoJitter, 0, 4 * s, 4 * s},
		{FullJitter, 0, 0, 4 * s},
		{EqualJitter, 0, 2 * s, 4 * s},
		{DecorrelatedJitter, 0, s, 3 * s},
		{DecorrelatedJitter, 2 * s, s, 6 * s},
		{DecorrelatedJitter, 9 * s, s, 10 * s},
		{DecorrelatedJitter, time.Millisecond, s, 3 * s},
		{DecorrelatedJitter, math.MaxInt64, s, 10 * s},
		{DecorrelatedJitter, -s, s, 3 * s},
	} {
		p := Policy{MaxAttempts: 9, BaseDelay: s, MaxDelay: 10 * s, Multiplier: 2, JitterType: tc.jitter}
		decide := func(r float64) time.Duration {
			return p.Decide(Input{Attempt: 3, Previous: tc.previous, Now: now}, fixed(r)).Delay
		}
		if low, high := decide(0), decide(1); low != tc.low || high != tc.high {
			t.Errorf("%s after a delay of %s is between %s and %s, want between %s and %s", tc.jitter, tc.previous, low, high, tc.low, tc.high)
		}
		for _, r := range []float64{math.NaN(), -1, 2, math.Inf(1), math.Inf(-1)} {
			if got := decide(r); got < tc.low || got > tc.high {
				t.Errorf("%s with the random number %v is %s, want between %s and %s", tc.jitter, r, got, tc.low, tc.high)
			}
		}
	}
}

// TestJitter_HasTheRightDistribution draws 100,000 delays of each jitter and
// compares them with the distribution of its formula, by the Kolmogorov-Smirnov test
// at the level of 1 percent: 1.63/sqrt(n).
func TestJitter_HasTheRightDistribution(t *testing.T) {
	const n = 100_000
	limit := 1.63 / math.Sqrt(n)
	for _, tc := range []struct {
		jitter   Jitter
		previous time.Duration
		a, b     float64 // seconds
	}{
		{FullJitter, 0, 0, 8},
		{EqualJitter, 0, 4, 8},
		{DecorrelatedJitter, 0, 1, 3},
		{DecorrelatedJitter, 5 * time.Second, 1, 15},
	} {
		p := Policy{MaxAttempts: 9, BaseDelay: time.Second, MaxDelay: time.Minute, Multiplier: 2, JitterType: tc.jitter}
		random, samples := seeded(7), make([]float64, n)
		for i := range samples {
			samples[i] = p.Decide(Input{Attempt: 4, Previous: tc.previous, Now: now}, random).Delay.Seconds()
		}
		if d := kolmogorovSmirnov(samples, uniform(tc.a, tc.b)); d > limit {
			t.Errorf("%s after %s: the distance from an even spread between %v s and %v s is %.5f, want at most %.5f", tc.jitter, tc.previous, tc.a, tc.b, d, limit)
		}
		if d := kolmogorovSmirnov(samples, uniform(tc.a, tc.b*1.02)); d <= limit {
			t.Errorf("%s: the test takes a spread that is 2 percent too wide for the right one", tc.jitter)
		}
	}
}

func TestJitter_DecorrelatedDelayIsCutAtItsCapAsOftenAsItsFormulaSays(t *testing.T) {
	const n = 100_000
	p := Policy{MaxAttempts: 9, BaseDelay: time.Second, MaxDelay: 10 * time.Second, JitterType: DecorrelatedJitter}
	random, capped := seeded(8), 0
	for range n {
		if p.Decide(Input{Attempt: 4, Previous: 9 * time.Second, Now: now}, random).Delay == p.MaxDelay {
			capped++
		}
	}
	// random(1, 27) is at or over 10 in 17 of 26 parts; 3.3 standard deviations
	// about that leave 0.1 percent.
	want := n * 17.0 / 26
	if spread := 3.3 * math.Sqrt(n*17.0/26*9/26); math.Abs(float64(capped)-want) > spread {
		t.Errorf("%d of %d delays were cut at the cap, want %.0f ± %.0f", capped, n, want, spread)
	}
}

func TestJitter_DecorrelatedChainNeverLeavesBaseAndCap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyPolicy(t)
		p.JitterType = DecorrelatedJitter
		in := Input{Now: now, Priority: rapid.SampledFrom(events.Priorities[:]).Draw(t, "priority")}
		for in.Attempt = 1; in.Attempt < 20; in.Attempt++ {
			in.Signals = anySignals(t)
			d := p.Decide(in, fixed(rapid.Float64Range(0, 1).Draw(t, "r"))).Delay
			if d < p.BaseDelay || d > p.MaxDelay {
				t.Fatalf("the delay after attempt %d and one of %s is %s, want from %s to %s", in.Attempt, in.Previous, d, p.BaseDelay, p.MaxDelay)
			}
			in.Previous = d
		}
	})
}

// TestJitter_DecorrelatedChainGrowsWhateverTheFactors guards against factors that
// compound: a factor below 1 would end all growth.
func TestJitter_DecorrelatedChainGrowsWhateverTheFactors(t *testing.T) {
	p := Policy{MaxAttempts: 99, BaseDelay: time.Second, MaxDelay: time.Hour, Multiplier: 2, JitterType: DecorrelatedJitter, EnableAdaptiveBackoff: true}
	for _, tc := range []struct {
		name     string
		priority events.Priority
		signals  Signals
	}{
		{name: "no factor"},
		{name: "critical priority", priority: events.Critical},
		{name: "a service that is ill", signals: Signals{HealthKnown: true}},
	} {
		in := Input{Now: now, Priority: tc.priority, Signals: tc.signals}
		for in.Attempt = 1; in.Attempt <= 6; in.Attempt++ {
			d := p.Decide(in, fixed(1)).Delay
			if in.Attempt > 1 && d != 3*in.Previous {
				t.Errorf("%s: the longest delay after %s is %s, want three times as much", tc.name, in.Previous, d)
			}
			in.Previous = d
		}
	}
}

func TestJitter_IsAWord(t *testing.T) {
	for _, j := range []Jitter{NoJitter, FullJitter, EqualJitter, DecorrelatedJitter} {
		if got, err := ParseJitter(j.String()); got != j || err != nil {
			t.Errorf("ParseJitter(%q) = %s, %v", j, got, err)
		}
	}
	if _, err := ParseJitter("gaussian"); err == nil {
		t.Error(`ParseJitter("gaussian") found no issue`)
	}
}

func ExampleParseJitter() {
	j, err := ParseJitter("decorrelated")
	fmt.Println(j, err)
	// Output: decorrelated <nil>
}
