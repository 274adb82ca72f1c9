package policy

import (
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rebound-mq/rebound/events"
)

// anyInput draws any input without a deadline, including signals that are NaN.
func anyInput(t *rapid.T) Input {
	attempts := rapid.OneOf(rapid.IntRange(-3, 60), rapid.IntRange(1, math.MaxInt-1), rapid.Just(math.MinInt))
	return Input{
		Attempt: attempts.Draw(t, "attempt"), Now: now, Service: "billing",
		Previous: time.Duration(rapid.OneOf(rapid.Int64Range(0, int64(maxDuration)), rapid.Int64()).Draw(t, "previous")),
		Priority: rapid.SampledFrom(events.Priorities[:]).Draw(t, "priority"),
		Signals:  anySignals(t),
	}
}

func TestDecide_DelayIsWithinItsBoundsForWhateverInput(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyPolicy(t)
		in := anyInput(t)
		in.Failure = Failure{Code: "503", RetryAfter: time.Duration(rapid.OneOf(rapid.Int64Range(-1e9, int64(2*maxDuration)), rapid.Just(int64(0))).Draw(t, "retryAfter"))}
		r := rapid.OneOf(rapid.Float64Range(0, 1), rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), -1})).Draw(t, "r")
		d := p.Decide(in, fixed(r))
		floor := max(in.Failure.RetryAfter, 0)
		switch {
		case !d.Retry || d.Reason != "":
			t.Fatalf("decided %+v, want a retry", d)
		case d.Delay < floor || d.Delay > max(p.MaxDelay, floor):
			t.Fatalf("the delay is %s, want from the Retry-After %s to the cap %s", d.Delay, floor, p.MaxDelay)
		case !d.Due.Equal(now.Add(d.Delay)):
			t.Fatalf("due at %s after a delay of %s, want %s", d.Due, d.Delay, now.Add(d.Delay))
		case !(d.Confidence >= 0 && d.Confidence <= 1):
			t.Fatalf("the confidence is %v, want from 0 to 1", d.Confidence)
		}
		for name, f := range d.Factors.Map() {
			if !(f >= 0.5 && f <= 1+maxAdaptation) {
				t.Fatalf("factor %s is %v, want a number from 0.5 to %d", name, f, 1+maxAdaptation)
			}
		}
	})
}

func TestDecide_PoliciesBuiltByHandDoNoHarm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Inf(-1), -1, 0, 1e300})
		d := func(name string) time.Duration {
			return time.Duration(rapid.SampledFrom([]int64{math.MinInt64, -1, 0, 1, math.MaxInt64}).Draw(t, name))
		}
		p := Policy{
			MaxAttempts: math.MaxInt, BaseDelay: d("base"), MaxDelay: d("max"), Multiplier: f.Draw(t, "multiplier"),
			BackoffStrategy: Strategy(rapid.IntRange(0, 5).Draw(t, "strategy")), JitterType: Jitter(rapid.IntRange(0, 5).Draw(t, "jitter")),
			EnableAdaptiveBackoff: true, EnableResourceAwareRetry: true, SuccessRateThreshold: f.Draw(t, "threshold"),
			AdaptationFactor: f.Draw(t, "adaptation"), LearningWindow: rapid.IntRange(-1, 1).Draw(t, "window"),
		}
		if got := p.Decide(anyInput(t), fixed(0.5)).Delay; got < 0 || got > max(p.MaxDelay, 0) {
			t.Fatalf("the delay is %s, want from 0 to %s", got, p.MaxDelay)
		}
	})
}

func TestDecide_SaysWhyAnOperationEnds(t *testing.T) {
	policy := func(change func(p *Policy)) Policy {
		p := usual()
		p.MaxAttempts, p.JitterType = 5, NoJitter // 1 s after attempt 1
		if change != nil {
			change(&p)
		}
		return p
	}
	limited := policy(func(p *Policy) { p.MaxElapsedTime = 10 * time.Second })
	brief := policy(func(p *Policy) { p.AttemptTimeout = time.Millisecond })
	for _, tc := range []struct {
		name string
		p    Policy
		in   Input
		want events.Reason // empty means a retry
	}{
		{"attempts are left", policy(nil), Input{Attempt: 4}, ""},
		{"the last attempt failed", policy(nil), Input{Attempt: 5}, events.ReasonExhausted},
		{"more attempts than allowed", policy(nil), Input{Attempt: math.MaxInt}, events.ReasonExhausted},
		{"the failure is not retryable", policy(nil), Input{Attempt: 1, Failure: Failure{Code: "403"}}, events.ReasonNotRetryable},
		{"not retryable and exhausted", policy(nil), Input{Attempt: 5, Failure: Failure{Code: "403"}}, events.ReasonNotRetryable},

		{"just in time for the deadline", policy(nil), Input{Attempt: 1, Deadline: now.Add(time.Second + MinAttempt)}, ""},
		{"just too late for the deadline", policy(nil), Input{Attempt: 1, Deadline: now.Add(time.Second + MinAttempt - 1)}, events.ReasonDeadline},
		{"an attempt that needs less than usual", brief, Input{Attempt: 1, Deadline: now.Add(time.Second + time.Millisecond)}, ""},
		{"a deadline that is over", policy(nil), Input{Attempt: 1, Deadline: now.Add(-time.Hour)}, events.ReasonDeadline},
		{"a Retry-After beyond the deadline", policy(nil), Input{Attempt: 1, Deadline: now.Add(time.Minute), Failure: Failure{RetryAfter: time.Minute}}, events.ReasonDeadline},

		{"just within maxElapsedTime", limited, Input{Attempt: 1, ElapsesFrom: now.Add(-9 * time.Second)}, ""},
		{"just over maxElapsedTime", limited, Input{Attempt: 1, ElapsesFrom: now.Add(-9*time.Second - 1)}, events.ReasonMaxElapsed},
		{"a Retry-After over maxElapsedTime", limited, Input{Attempt: 1, Failure: Failure{RetryAfter: 11 * time.Second}}, events.ReasonMaxElapsed},
		{"no first failure known", limited, Input{Attempt: 1}, ""},
		{"a first failure in the future", limited, Input{Attempt: 1, ElapsesFrom: now.Add(time.Hour)}, ""},
		{"both too late", limited, Input{Attempt: 1, ElapsesFrom: now.Add(-time.Hour), Deadline: now}, events.ReasonDeadline},
	} {
		tc.in.Now = now
		d := tc.p.Decide(tc.in, fixed(0.5))
		if d.Reason != tc.want || d.Retry != (tc.want == "") {
			t.Errorf("%s: retry %t, reason %q, want reason %q", tc.name, d.Retry, d.Reason, tc.want)
		}
		if !d.Retry && (d.Delay != 0 || !d.Due.IsZero() || d.Strategy != "") {
			t.Errorf("%s: an end has delay %s, due %s and strategy %q, want none", tc.name, d.Delay, d.Due, d.Strategy)
		}
	}
}

func TestDecide_RetryAfterIsAFloor(t *testing.T) {
	p := usual()
	p.JitterType = NoJitter
	for _, tc := range []struct{ after, want time.Duration }{
		{0, time.Second},
		{-time.Minute, time.Second},
		{500 * time.Millisecond, time.Second},
		{3 * time.Second, 3 * time.Second},
		{time.Hour, time.Hour}, // over the cap of 5 min: the target knows best
	} {
		if got := p.Decide(Input{Attempt: 1, Now: now, Failure: Failure{Code: "429", RetryAfter: tc.after}}, fixed(0)).Delay; got != tc.want {
			t.Errorf("with a Retry-After of %s the delay is %s, want %s", tc.after, got, tc.want)
		}
	}
}

func TestDecide_DrawsAtMostOnce(t *testing.T) {
	for jitter, want := range map[Jitter]int{NoJitter: 0, FullJitter: 1, EqualJitter: 1, DecorrelatedJitter: 1} {
		p := usual()
		p.JitterType = jitter
		drawn := 0
		p.Decide(Input{Attempt: 2, Now: now}, func() float64 { drawn++; return 0.5 })
		if drawn != want {
			t.Errorf("%s jitter draws %d random numbers, want %d", jitter, drawn, want)
		}
	}
}

func TestDecide_NameOfTheStrategyTellsWhetherItAdapts(t *testing.T) {
	for _, tc := range []struct {
		strategy Strategy
		adaptive bool
		want     string
	}{
		{Fixed, false, "fixed"},
		{Linear, false, "linear"},
		{Exponential, false, "exponential"},
		{Adaptive, false, "adaptive_exponential"},
		{Fixed, true, "adaptive_fixed"},
		{Linear, true, "adaptive_linear"},
		{Exponential, true, "adaptive_exponential"},
		{Adaptive, true, "adaptive_exponential"},
	} {
		p := usual()
		p.BackoffStrategy, p.EnableAdaptiveBackoff = tc.strategy, tc.adaptive
		if got := p.Decide(Input{Attempt: 1, Now: now}, fixed(0)).Strategy; got != tc.want {
			t.Errorf("%s with adaptive %t is named %q, want %q", tc.strategy, tc.adaptive, got, tc.want)
		}
	}
}

// busy is an input in which every factor is above 1.
var busy = Input{
	Attempt: 2, Now: now, ElapsesFrom: now.Add(-time.Minute), Deadline: now.Add(time.Hour), Service: "connection_pool", Priority: events.High,
	Failure: Failure{Code: "503", Message: "the pool is away"},
	Signals: Signals{HealthKnown: true, HealthScore: 40, Samples: 9, SuccessRate: 0.4, Age: time.Minute, Variance: 0.3, ResponseTrend: 0.4, CPU: 90, Memory: 85, Pool: 95, Queue: 40, Load: 1.4},
}

func TestDecide_AllocatesNothing(t *testing.T) {
	p := Builtin().Resolve(Query{Service: "connection_pool"})
	random := seeded(1)
	for name, f := range p.Decide(busy, random).Factors.Map() {
		if f == 1 && name != "load" { // the CPU is busier
			t.Errorf("factor %s says nothing", name)
		}
	}
	if allocs := testing.AllocsPerRun(100, func() { p.Decide(busy, random) }); allocs != 0 {
		t.Errorf("a decision allocates %v times, want 0", allocs)
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, name := range []string{"connection_pool", "session_manager", "campaign_orchestrator", "default"} {
		b.Run(name, func(b *testing.B) {
			p := Builtin().Resolve(Query{Service: name})
			random := seeded(1)
			b.ReportAllocs()
			for b.Loop() {
				p.Decide(busy, random)
			}
		})
	}
}

func ExamplePolicy_Decide() {
	p := Policy{MaxAttempts: 5, BaseDelay: time.Second, MaxDelay: 10 * time.Second, Multiplier: 2}
	for attempt := 1; attempt <= 5; attempt++ {
		d := p.Decide(Input{Attempt: attempt, Now: time.Now(), Failure: Failure{Code: "503"}}, nil)
		if d.Retry {
			fmt.Println("attempt", attempt, "failed, the next is due in", d.Delay, "by", d.Strategy)
		} else {
			fmt.Println("attempt", attempt, "failed, the operation ends:", d.Reason)
		}
	}
	// Output:
	// attempt 1 failed, the next is due in 1s by exponential
	// attempt 2 failed, the next is due in 2s by exponential
	// attempt 3 failed, the next is due in 4s by exponential
	// attempt 4 failed, the next is due in 8s by exponential
	// attempt 5 failed, the operation ends: exhausted
}
