package policy

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestBackoff_GrowsByItsStrategy(t *testing.T) {
	const s = time.Second
	for _, tc := range []struct {
		strategy   Strategy
		multiplier float64
		want       [6]time.Duration // after attempts 1 to 5, and the largest int
	}{
		{Fixed, 2, [...]time.Duration{s, s, s, s, s, s}},
		{Linear, 2, [...]time.Duration{s, 2 * s, 3 * s, 4 * s, 5 * s, 10 * s}},
		{Exponential, 2, [...]time.Duration{s, 2 * s, 4 * s, 8 * s, 10 * s, 10 * s}},
		{Exponential, 1, [...]time.Duration{s, s, s, s, s, s}},
		{Exponential, 3, [...]time.Duration{s, 3 * s, 9 * s, 10 * s, 10 * s, 10 * s}},
		{Exponential, 1.5, [...]time.Duration{s, 1500 * time.Millisecond, 2250 * time.Millisecond, 3375 * time.Millisecond, 5062500 * time.Microsecond, 10 * s}},
		{Adaptive, 2, [...]time.Duration{s, 2 * s, 4 * s, 8 * s, 10 * s, 10 * s}},
	} {
		p := Policy{BaseDelay: s, MaxDelay: 10 * s, BackoffStrategy: tc.strategy, Multiplier: tc.multiplier}
		for i, attempt := range []int{1, 2, 3, 4, 5, math.MaxInt} {
			if got := duration(p.backoff(attempt), p.MaxDelay); got != tc.want[i] {
				t.Errorf("%s by %v: the delay after attempt %d is %s, want %s", tc.strategy, tc.multiplier, attempt, got, tc.want[i])
			}
		}
	}
}

func TestBackoff_StaysWithinItsCapAndNeverFalls(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyPolicy(t)
		attempt := rapid.IntRange(1, math.MaxInt-1).Draw(t, "attempt")
		if rapid.Bool().Draw(t, "few") {
			attempt = rapid.IntRange(1, 100).Draw(t, "fewAttempts")
		}
		now, next := p.backoff(attempt), p.backoff(attempt+1)
		if !(now >= 0) || now > float64(p.MaxDelay) || next < now {
			t.Fatalf("the delays after attempts %d and %d are %v and %v ns, want them to rise from 0 to the cap %v", attempt, attempt+1, now, next, float64(p.MaxDelay))
		}
	})
}

func TestPower_IsThatOfMath(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x, n := rapid.Float64Range(1, 100).Draw(t, "x"), rapid.IntRange(0, 1100).Draw(t, "n")
		got, want := power(x, n), math.Pow(x, float64(n))
		if got != want && math.Abs(got-want) > 1e-12*want { // both may be +Inf
			t.Fatalf("power(%v, %d) = %v, want %v", x, n, got, want)
		}
	})
	if got := power(math.NaN(), 5); got != 1 {
		t.Errorf("power(NaN, 5) = %v, want 1", got)
	}
}

func TestStrategy_IsAWord(t *testing.T) {
	for _, s := range []Strategy{Exponential, Fixed, Linear, Adaptive} {
		if got, err := ParseStrategy(s.String()); got != s || err != nil {
			t.Errorf("ParseStrategy(%q) = %s, %v", s, got, err)
		}
	}
	if _, err := ParseStrategy("quadratic"); err == nil {
		t.Error(`ParseStrategy("quadratic") found no issue`)
	}
	if got := Strategy(9).String(); got != "9" {
		t.Errorf("an unknown strategy is written %q, want 9", got)
	}
}

// anyPolicy draws a policy that a file could hold, without limits of attempts.
func anyPolicy(t *rapid.T) Policy {
	durations := rapid.Int64Range(0, int64(maxDuration))
	if rapid.Bool().Draw(t, "short") {
		durations = rapid.Int64Range(0, int64(time.Minute))
	}
	p := usual()
	p.MaxAttempts, p.MaxElapsedTime = math.MaxInt, 0
	p.MaxDelay = time.Duration(durations.Draw(t, "maxDelay"))
	p.BaseDelay = time.Duration(rapid.Int64Range(0, int64(p.MaxDelay)).Draw(t, "baseDelay"))
	p.Multiplier = rapid.Float64Range(1, maxMultiplier).Draw(t, "multiplier")
	p.BackoffStrategy = Strategy(rapid.IntRange(0, 3).Draw(t, "strategy"))
	p.JitterType = Jitter(rapid.IntRange(0, 3).Draw(t, "jitter"))
	p.EnableAdaptiveBackoff = rapid.Bool().Draw(t, "adaptive")
	p.EnableResourceAwareRetry = rapid.Bool().Draw(t, "resourceAware")
	p.SuccessRateThreshold = rapid.Float64Range(0, 1).Draw(t, "threshold")
	p.AdaptationFactor = rapid.Float64Range(0, maxAdaptation).Draw(t, "adaptation")
	p.LearningWindow = rapid.IntRange(1, maxWindow).Draw(t, "window")
	return p
}
