package policy

import (
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/health"
)

func TestFactors_EachAloneHasItsFormula(t *testing.T) {
	full := func(s Signals) Signals { s.Samples = 10; return s } // the whole learning window
	for _, tc := range []struct {
		name     string
		signals  Signals
		priority events.Priority
		factor   string // the factor above 1; all others are 1
		want     float64
	}{
		{"nothing is known", Signals{}, events.Normal, "", 1},
		{"a health score that is not known", Signals{HealthScore: 10}, events.Normal, "", 1},
		{"a service that is well", Signals{HealthScore: 80, HealthKnown: true}, events.Normal, "", 1},
		{"a health score of half of well", Signals{HealthScore: 40, HealthKnown: true}, events.Normal, "health", 2},
		{"a dead service", Signals{HealthScore: 0, HealthKnown: true}, events.Normal, "health", 3},
		{"a health score below its range", Signals{HealthScore: -50, HealthKnown: true}, events.Normal, "health", 3},

		{"a success rate at the threshold", full(Signals{SuccessRate: 0.7}), events.Normal, "", 1},
		{"a success rate of half the threshold", full(Signals{SuccessRate: 0.35}), events.Normal, "successRate", 1.25},
		{"no success", full(Signals{}), events.Normal, "successRate", 1.5},
		{"no success in half the window", Signals{Samples: 5}, events.Normal, "successRate", 1.25},
		{"no success in ten windows", Signals{Samples: 100}, events.Normal, "successRate", 1.5},
		{"no success five minutes ago", full(Signals{Age: 5 * time.Minute}), events.Normal, "successRate", 1.25},
		{"no success ten minutes ago", full(Signals{Age: 10 * time.Minute}), events.Normal, "successRate", 1.125},

		{"responses that take half as long again", full(Signals{SuccessRate: 1, ResponseTrend: 0.5}), events.Normal, "responseTime", 1.5},
		{"responses that take five times as long", full(Signals{SuccessRate: 1, ResponseTrend: 4}), events.Normal, "responseTime", 2},
		{"responses that get faster", full(Signals{SuccessRate: 1, ResponseTrend: -0.5}), events.Normal, "", 1},
		{"a trend without samples", Signals{ResponseTrend: 1}, events.Normal, "", 1},

		{"a CPU that is busy", Signals{CPU: 70}, events.Normal, "", 1},
		{"a CPU half way to its limit", Signals{CPU: 85}, events.Normal, "cpu", 1.5},
		{"a CPU at its limit", Signals{CPU: 100}, events.Normal, "cpu", 2},
		{"a CPU beyond its limit", Signals{CPU: 400}, events.Normal, "cpu", 2},
		{"memory that is busy", Signals{Memory: 80}, events.Normal, "", 1},
		{"memory half way to its limit", Signals{Memory: 90}, events.Normal, "memory", 1.5},
		{"a pool that is busy", Signals{Pool: 70}, events.Normal, "", 1},
		{"a pool that is used up", Signals{Pool: 100}, events.Normal, "pool", 2},
		{"a queue of 100", Signals{Queue: 100}, events.Normal, "queue", 1.5},
		{"a queue of 300", Signals{Queue: 300}, events.Normal, "queue", 1.75},
		{"a queue below nothing", Signals{Queue: -5}, events.Normal, "", 1},

		{"every core busy", Signals{Load: 1}, events.Normal, "", 1},
		{"half as much again", Signals{Load: 1.5}, events.Normal, "load", 1.5},
		{"a load beyond measure", Signals{Load: 50}, events.Normal, "load", 2},

		{"critical priority", Signals{}, events.Critical, "priority", 0.5},
		{"high priority", Signals{}, events.High, "priority", 0.75},
		{"low priority", Signals{}, events.Low, "", 1},
	} {
		p := usual()
		p.BackoffStrategy, p.EnableResourceAwareRetry, p.JitterType = Adaptive, true, NoJitter
		d := p.Decide(Input{Attempt: 1, Now: now, Priority: tc.priority, Signals: tc.signals}, fixed(0))
		for name, got := range d.Factors.Map() {
			want := 1.0
			if name == tc.factor {
				want = tc.want
			}
			if math.Abs(got-want) > 1e-12 {
				t.Errorf("%s: factor %s is %v, want %v", tc.name, name, got, want)
			}
		}
		if want := time.Duration(tc.want * float64(time.Second)); d.Delay != want {
			t.Errorf("%s: the delay is %s, want %s", tc.name, d.Delay, want)
		}
	}
}

func TestFactors_Multiply(t *testing.T) {
	p := usual()
	p.BackoffStrategy, p.EnableResourceAwareRetry, p.JitterType = Adaptive, true, NoJitter
	d := p.Decide(Input{Attempt: 2, Now: now, Priority: events.High, Signals: Signals{HealthKnown: true, HealthScore: 40, CPU: 85, Memory: 90}}, fixed(0))
	if want := 6750 * time.Millisecond; d.Delay != want {
		t.Errorf("the delay is %s, want 2 s × 2 × 1.5 × 1.5 × 0.75 = %s", d.Delay, want)
	}
	if d.Strategy != "adaptive_exponential" {
		t.Errorf("the strategy is %q, want adaptive_exponential", d.Strategy)
	}
}

func TestFactors_BusyProcessorCountsOnce(t *testing.T) {
	for _, tc := range []struct {
		cpu, load         float64
		wantCPU, wantLoad float64
	}{{85, 1.4, 1.5, 1}, {85, 1.6, 1, 1.6}, {85, 1.5, 1.5, 1}, {50, 1.5, 1, 1.5}} {
		p := usual()
		p.BackoffStrategy, p.EnableResourceAwareRetry = Adaptive, true
		f := p.Decide(Input{Attempt: 2, Now: now, Signals: Signals{CPU: tc.cpu, Load: tc.load}}, fixed(0)).Factors
		if math.Abs(f.CPU-tc.wantCPU) > 1e-9 || math.Abs(f.Load-tc.wantLoad) > 1e-9 {
			t.Errorf("CPU %v %% and load %v give the factors %v and %v, want %v and %v", tc.cpu, tc.load, f.CPU, f.Load, tc.wantCPU, tc.wantLoad)
		}
	}
}

func TestSignals_ResourceWithAFactorOfItsOwnIsNotInTheHealthScore(t *testing.T) {
	figures := health.Figures{Known: true, Score: 49, Vitality: 90, SuccessRate: 1, CPU: 100, Memory: 100}
	for aware, want := range map[bool]float64{true: 90, false: 49} {
		p := &Policy{EnableResourceAwareRetry: aware}
		if got := p.Signals(figures).HealthScore; got != want {
			t.Errorf("with enableResourceAwareRetry %t the health score is %v, want %v", aware, got, want)
		}
	}
}

func TestFactors_CountOnlyForPoliciesThatWantThem(t *testing.T) {
	ill := Signals{HealthKnown: true, CPU: 100, Memory: 100, Pool: 100, Queue: 1000, Load: 9, Samples: 10, ResponseTrend: 5}
	plain := usual()
	plain.EnableAdaptiveBackoff = false
	d := plain.Decide(Input{Attempt: 1, Now: now, Signals: ill, Priority: events.Critical}, fixed(0))
	if d.Factors != noFactors || d.Confidence != 1 || d.Strategy != "exponential" {
		t.Errorf("a policy that does not adapt decided %+v, want no factor and full confidence", d)
	}
	adaptive := usual()
	adaptive.EnableAdaptiveBackoff = true
	f := adaptive.Decide(Input{Attempt: 1, Now: now, Signals: ill}, fixed(0)).Factors
	if f.CPU != 1 || f.Memory != 1 || f.Pool != 1 || f.Queue != 1 || f.Health != 3 || f.Load != 1 {
		t.Errorf("a policy that does not look at resources has the factors %+v, want those of resources to be 1", f)
	}
}

func TestConfidence_HasItsFormula(t *testing.T) {
	for _, tc := range []struct {
		name string
		s    Signals
		want float64
	}{
		{"no evidence", Signals{Variance: 1}, 0},
		{"one sample", Signals{Samples: 1}, 1.0 / 3},
		{"ten samples", Signals{Samples: 10}, 10.0 / 12},
		{"ten samples five minutes old", Signals{Samples: 10, Age: 5 * time.Minute}, 5.0 / 12},
		{"ten samples as spread as their mean", Signals{Samples: 10, Variance: 1}, 5.0 / 12},
		{"a variance that is no number", Signals{Samples: 10, Variance: math.NaN()}, 10.0 / 12},
		{"an endless variance", Signals{Samples: 10, Variance: math.Inf(1)}, 0},
		{"samples from the future", Signals{Samples: 10, Age: -time.Hour}, 10.0 / 12},
	} {
		if got := confidenceOf(tc.s); math.Abs(got-tc.want) > 1e-12 {
			t.Errorf("%s: the confidence is %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestConfidence_GrowsWithEvidenceAndFallsWithAgeAndVariance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Signals{
			Samples:  rapid.IntRange(1, 100).Draw(t, "samples"),
			Age:      time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "age")),
			Variance: rapid.Float64Range(0, 100).Draw(t, "variance"),
		}
		c := confidenceOf(s)
		more, older, wider := s, s, s
		more.Samples++
		older.Age += time.Second
		wider.Variance += 0.01
		if !(c > 0 && c < 1) || !(confidenceOf(more) > c) || !(confidenceOf(older) < c) || !(confidenceOf(wider) < c) {
			t.Fatalf("%+v has confidence %v; with one sample more %v, a second older %v, more variance %v", s, c, confidenceOf(more), confidenceOf(older), confidenceOf(wider))
		}
	})
}

// TestFactors_WorseHealthNeverShortensADelay makes every signal worse at once or one
// alone, all else equal.
func TestFactors_WorseHealthNeverShortensADelay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyPolicy(t)
		in := anyInput(t)
		in.Signals = sane(anySignals(t))
		worse := in
		s := &worse.Signals
		lower := func(x *float64, label string) { *x -= rapid.Float64Range(0, 100).Draw(t, label) }
		higher := func(x *float64, label string) { *x += rapid.Float64Range(0, 100).Draw(t, label) }
		lower(&s.HealthScore, "score")
		lower(&s.SuccessRate, "rate")
		higher(&s.ResponseTrend, "trend")
		higher(&s.CPU, "cpu")
		higher(&s.Memory, "memory")
		higher(&s.Pool, "pool")
		higher(&s.Load, "load")
		s.Queue += rapid.IntRange(0, 1000).Draw(t, "queue")
		r := fixed(rapid.Float64Range(0, 1).Draw(t, "r"))
		if was, is := p.Decide(in, r).Delay, p.Decide(worse, r).Delay; is < was {
			t.Fatalf("the delay fell from %s to %s when %+v became %+v", was, is, in.Signals, worse.Signals)
		}
	})
}

func TestFactors_HigherPriorityNeverLengthensADelay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyPolicy(t)
		in := anyInput(t)
		r := fixed(rapid.Float64Range(0, 1).Draw(t, "r"))
		var before time.Duration
		for i, priority := range events.Priorities {
			in.Priority = priority
			d := p.Decide(in, r).Delay
			if i > 0 && d < before {
				t.Fatalf("priority %s waits %s, %s waits longer: %s", priority, d, events.Priorities[i-1], before)
			}
			before = d
		}
	})
}

func confidenceOf(s Signals) float64 { return confidence(&s, freshness(s.Age)) }

// anySignals draws any signals, including NaN and infinity.
func anySignals(t *rapid.T) Signals {
	f := rapid.OneOf(
		rapid.Float64Range(-1, 200),
		rapid.Float64Range(0, 1),
		rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64, -math.MaxFloat64, math.SmallestNonzeroFloat64}),
	)
	return Signals{
		HealthKnown: rapid.Bool().Draw(t, "known"), HealthScore: f.Draw(t, "score"), SuccessRate: f.Draw(t, "rate"),
		Samples: rapid.IntRange(-10, math.MaxInt).Draw(t, "samples"), Age: time.Duration(rapid.Int64().Draw(t, "age")),
		Variance: f.Draw(t, "variance"), ResponseTrend: f.Draw(t, "trend"), CPU: f.Draw(t, "cpu"), Memory: f.Draw(t, "memory"),
		Pool: f.Draw(t, "pool"), Queue: rapid.Int().Draw(t, "queue"), Load: f.Draw(t, "load"),
	}
}

// sane replaces NaN by 0, so that signals can be compared.
func sane(s Signals) Signals {
	for _, x := range []*float64{&s.HealthScore, &s.SuccessRate, &s.Variance, &s.ResponseTrend, &s.CPU, &s.Memory, &s.Pool, &s.Load} {
		if math.IsNaN(*x) || math.IsInf(*x, 0) {
			*x = 0
		}
	}
	s.Queue = max(s.Queue, 0) / 2
	return s
}

func ExamplePolicy_Decide_adaptive() {
	p := Builtin().Resolve(Query{Service: "connection_pool", Operation: "acquire_connection"})
	d := p.Decide(Input{
		Attempt: 2, Now: time.Now(), Service: "connection_pool", Failure: Failure{Code: "POOL_EXHAUSTED"},
		Signals: Signals{Pool: 100, Samples: 10, SuccessRate: 0.35},
	}, func() float64 { return 1 })
	fmt.Printf("%s by %s with confidence %.2f\n", d.Delay, d.Strategy, d.Confidence)
	fmt.Println("pool", d.Factors.Pool, "successRate", d.Factors.SuccessRate)
	// Output:
	// 2.5s by adaptive_exponential with confidence 0.83
	// pool 2 successRate 1.25
}
