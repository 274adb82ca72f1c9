package policy

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/health"
)

func TestSignals_ReportLengthensDelaysUntilItHasFaded(t *testing.T) {
	registry := health.NewRegistry()
	policy := Builtin().Resolve(Query{Service: "connection_pool"})
	cpu, queue, errorRate := 96.0, 100, 0.9
	if err := registry.Report("connection_pool", events.HealthReport{CPUUtilization: &cpu, QueueLength: &queue, ErrorRate: &errorRate}, now); err != nil {
		t.Fatal(err)
	}
	decide := func(age time.Duration) Decision {
		at := now.Add(age)
		return policy.Decide(Input{Attempt: 1, Now: at, Failure: Failure{Code: "503"}, Signals: policy.Signals(registry.Figures("connection_pool", policy.LearningWindow, at))}, func() float64 { return 0.5 })
	}
	fresh, fading, gone := decide(0), decide(75*time.Second), decide(health.ReportMaxAge)
	for name, factor := range map[string]func(Decision) float64{
		"cpu":         func(d Decision) float64 { return d.Factors.CPU },
		"queue":       func(d Decision) float64 { return d.Factors.Queue },
		"successRate": func(d Decision) float64 { return d.Factors.SuccessRate },
		"health":      func(d Decision) float64 { return d.Factors.Health },
	} {
		if a, b, c := factor(fresh), factor(fading), factor(gone); !(a > b && b > 1 && c == 1) {
			t.Errorf("factor %s is %v, after 75 s %v, after 10 min %v; want it to fall to 1", name, a, b, c)
		}
	}
	if !(fresh.Confidence > fading.Confidence && fading.Confidence > 0 && gone.Confidence == 0) {
		t.Errorf("confidence is %v, after 75 s %v, after 10 min %v; want it to fall to 0", fresh.Confidence, fading.Confidence, gone.Confidence)
	}
}

func TestSignals_TakeTheSuccessRateThatLengthensTheDelayMore(t *testing.T) {
	policy := &Policy{BackoffStrategy: Adaptive, LearningWindow: 10, SuccessRateThreshold: 0.7, AdaptationFactor: 0.5}
	for _, c := range []struct {
		name    string
		figures health.Figures
		rate    float64
		samples int
	}{
		{"nothing is known", health.Figures{SuccessRate: 1}, 1, 0},
		{"a report of no errors is evidence as well", health.Figures{SuccessRate: 1, Reported: true}, 1, 10},
		{"a bad report against one failed attempt", health.Figures{Window: 1, Reported: true, ErrorRate: 0.75}, 0.25, 10},
		{"a good report against three failed attempts", health.Figures{Window: 3, Reported: true}, 0, 3},
		{"a bad report against ten good attempts", health.Figures{Window: 10, SuccessRate: 1, Reported: true, ErrorRate: 0.5}, 0.5, 10},
	} {
		if got := policy.Signals(c.figures); got.SuccessRate != c.rate || got.Samples != c.samples {
			t.Errorf("%s: the success rate is %v of %d, want %v of %d", c.name, got.SuccessRate, got.Samples, c.rate, c.samples)
		}
	}
}

func TestSignals_WorseFiguresOfHealthNeverShortenADelay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy := Builtin().Resolve(Query{Service: "connection_pool"})
		registry := health.NewRegistry()
		at := now
		rate := func(name string) *float64 {
			v := rapid.Float64Range(0, 1).Draw(t, name)
			return &v
		}
		for range rapid.IntRange(0, 40).Draw(t, "attempts") {
			result := rapid.SampledFrom([]health.Result{health.Succeeded, health.Failed}).Draw(t, "result")
			registry.End("s", result, time.Duration(rapid.Int64Range(0, int64(time.Second)).Draw(t, "response")), at)
		}
		if rapid.Bool().Draw(t, "reports") {
			_ = registry.Report("s", events.HealthReport{ErrorRate: rate("error rate")}, at)
		}
		at = at.Add(time.Duration(rapid.Int64Range(0, int64(20*time.Minute)).Draw(t, "age")))
		product := func() float64 {
			s := policy.Signals(registry.Figures("s", policy.LearningWindow, at))
			return policy.factors(&s, freshness(s.Age), events.Normal).Product()
		}
		before := product()
		switch rapid.IntRange(0, 2).Draw(t, "what gets worse") {
		case 0:
			registry.End("s", health.Failed, health.NoResponse, at)
		case 1:
			worse := 100.0
			_ = registry.Report("s", events.HealthReport{CPUUtilization: &worse, SystemLoad: &worse}, at)
		default:
			registry.SetShortage(health.Shortage{Processor: 2})
		}
		if after := product(); after < before*(1-1e-12) {
			t.Errorf("the delay is multiplied by %v, and by %v with worse health", before, after)
		}
	})
}

// BenchmarkDecideByHealth reads the health and decides, as the pipeline does.
func BenchmarkDecideByHealth(b *testing.B) {
	registry := health.NewRegistry()
	policy := Builtin().Resolve(Query{Service: "connection_pool"})
	cpu := 96.0
	if err := registry.Report("connection_pool", events.HealthReport{CPUUtilization: &cpu}, now); err != nil {
		b.Fatal(err)
	}
	for range health.Samples {
		registry.End("connection_pool", health.Failed, 10*time.Millisecond, now)
	}
	random := func() float64 { return 0.5 }
	b.ReportAllocs()
	for b.Loop() {
		policy.Decide(Input{Attempt: 3, Now: now, Failure: Failure{Code: "503"}, Signals: policy.Signals(registry.Figures("connection_pool", policy.LearningWindow, now))}, random)
	}
}
