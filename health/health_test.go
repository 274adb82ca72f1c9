package health_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/health"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func ptr[T any](v T) *T { return &v }

// attempts records attempts one second apart, and returns when the last one ended.
func attempts(r *health.Registry, service string, results ...health.Result) time.Time {
	now := start
	for _, result := range results {
		now = now.Add(time.Second)
		r.Begin(service)
		r.End(service, result, 10*time.Millisecond, now)
	}
	return now
}

func repeat(result health.Result, n int) []health.Result {
	return slices.Repeat([]health.Result{result}, n)
}

func TestRegistry_SuccessRateIsThatOfTheLastAttempts(t *testing.T) {
	ok, bad, unknown := health.Succeeded, health.Failed, health.Unknown
	for _, c := range []struct {
		name    string
		results []health.Result
		window  int
		rate    float64
		counted int
	}{
		{"nothing is known of a service without attempts", nil, 10, 1, 0},
		{"one failure is a rate of none", []health.Result{bad}, 10, 0, 1},
		{"three of four", []health.Result{ok, ok, bad, ok}, 10, 0.75, 4},
		{"a window shorter than what is known", []health.Result{bad, bad, ok, ok}, 2, 1, 2},
		{"what does not speak of health is left out", []health.Result{bad, unknown, ok, unknown}, 10, 0.5, 2},
		{"a window of none counts as one", []health.Result{ok, bad}, 0, 0, 1},
		{"a window beyond what is remembered", append(repeat(bad, 50), repeat(ok, 100)...), 1000, 1, 100},
		{"a hundred are remembered", append(repeat(ok, 500), repeat(bad, 99)...), 100, 0.01, 100},
		{"a window over both halves of the bits", append(repeat(bad, 20), repeat(ok, 60)...), 80, 0.75, 80},
		{"a window of just the lower half", append(repeat(bad, 36), repeat(ok, 64)...), 64, 1, 64},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := health.NewRegistry()
			now := attempts(r, "billing", c.results...)
			got := r.Figures("billing", c.window, now)
			if math.Abs(got.SuccessRate-c.rate) > 1e-12 || got.Window != c.counted {
				t.Errorf("the rate is %v of %d attempts, want %v of %d", got.SuccessRate, got.Window, c.rate, c.counted)
			}
		})
	}
}

func TestRegistry_TrendComparesTheLastTenWithThoseBefore(t *testing.T) {
	for _, c := range []struct {
		name          string
		before, after time.Duration
		n             int // attempts of each kind
		want          float64
	}{
		{"steady", 20 * time.Millisecond, 20 * time.Millisecond, 10, 0},
		{"half as slow again", 20 * time.Millisecond, 30 * time.Millisecond, 10, 0.5},
		{"twice as fast", 20 * time.Millisecond, 10 * time.Millisecond, 10, -0.5},
		{"three times as slow, by two milliseconds", time.Millisecond, 3 * time.Millisecond, 10, 0.1},
		{"from quick to slow", time.Millisecond, 61 * time.Millisecond, 10, 3},
		{"too few to tell", 20 * time.Millisecond, 200 * time.Millisecond, 9, 0},
		{"from nothing", 0, time.Nanosecond, 10, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := health.NewRegistry()
			for range c.n {
				r.End("billing", health.Succeeded, c.before, start)
			}
			for range c.n {
				r.End("billing", health.Failed, health.NoResponse, start)
				r.End("billing", health.Succeeded, c.after, start)
			}
			if got := r.Figures("billing", 10, start).Trend; math.Abs(got-c.want) > 1e-9 {
				t.Errorf("the trend is %v, want %v", got, c.want)
			}
		})
	}
}

func TestRegistry_ResponseTimesAreShownWithMeanAndPercentile(t *testing.T) {
	r := health.NewRegistry()
	for i := range 100 {
		r.End("billing", health.Succeeded, time.Duration(100-i)*time.Millisecond, start)
	}
	r.End("billing", health.Failed, health.NoResponse, start)
	m, _ := r.Metrics("billing", nil, start)
	// The hundredth, the slowest, is forgotten; 1 to 99 remain.
	if math.Abs(*m.AverageResponseTime-50) > 1e-9 || math.Abs(*m.P95ResponseTime-95) > 1e-9 || m.Samples != 100 || math.Abs(*m.ErrorRate-0.05) > 1e-9 {
		t.Errorf("mean %v, p95 %v, %d samples, error rate %v; want 50, 95, 100 and 0.05, for the last weighs a twentieth", *m.AverageResponseTime, *m.P95ResponseTime, m.Samples, *m.ErrorRate)
	}
	// Var of 1..99 is (99²−1)/12, the mean 50.
	if got, want := r.Figures("billing", 10, start).Variation, (99.0*99-1)/12/2500; math.Abs(got-want) > 1e-9 {
		t.Errorf("the squared coefficient of variation is %v, want %v", got, want)
	}
}

func TestRegistry_AttemptsAreForgottenAfterAnHour(t *testing.T) {
	r := health.NewRegistry()
	now := attempts(r, "billing", repeat(health.Failed, 50)...)
	if got := r.Figures("billing", 10, now.Add(health.MaxAge)); got.Window != 10 || got.Age != health.MaxAge {
		t.Errorf("after an hour there are %d attempts of age %v, want 10 of 1h", got.Window, got.Age)
	}
	late := now.Add(health.MaxAge + time.Nanosecond)
	if got := r.Figures("billing", 10, late); got.Window != 0 || got.Known || got.SuccessRate != 1 || got.Score != 100 {
		t.Errorf("after more than an hour there is %+v, want nothing known", got)
	}
	if _, ok := r.Metrics("billing", nil, late); ok {
		t.Error("a service of which nothing is known is shown")
	}
	r.End("billing", health.Succeeded, time.Millisecond, late.Add(time.Minute))
	if got := r.Figures("billing", 100, late.Add(time.Minute)); got.Window != 1 || got.SuccessRate != 1 {
		t.Errorf("the forgotten attempts came back: %+v", got)
	}
	r.Forget(time.Time{}, late.Add(3*health.MaxAge))
	if all := r.All(nil, start); len(all) != 0 {
		t.Errorf("after Forget there is still %+v", all)
	}
}

func TestRegistry_ServiceThatWasNotHeardOfIsForgotten(t *testing.T) {
	r := health.NewRegistry()
	last := attempts(r, "attempted", health.Succeeded)
	if err := r.Report("reported", events.HealthReport{QueueLength: ptr(3)}, last); err != nil {
		t.Fatal(err)
	}
	r.Begin("busy")
	r.Forget(last, last)
	if all := r.All(nil, last); len(all) != 3 {
		t.Errorf("%d services are left of three that were just heard of", len(all))
	}
	r.Forget(last.Add(time.Nanosecond), last.Add(time.Minute))
	if all := r.All(nil, last); len(all) != 1 || all[0].ServiceType != "busy" {
		t.Errorf("Forget left %+v, want the one with an attempt in flight", all)
	}
}

func TestRegistry_ReportFades(t *testing.T) {
	r := health.NewRegistry()
	report := events.HealthReport{
		CPUUtilization: ptr(96.0), MemoryUtilization: ptr(90.0), PoolUtilization: ptr(80.0), SystemLoad: ptr(1.5),
		QueueLength: ptr(40), ErrorRate: ptr(0.4), ActiveConnections: ptr(7), AverageResponseTime: ptr(12.5),
	}
	if err := r.Report("pool", report, start); err != nil {
		t.Fatal(err)
	}
	fresh := r.Figures("pool", 10, start.Add(health.ReportFresh))
	if fresh.CPU != 96 || fresh.Memory != 90 || fresh.Pool != 80 || fresh.Load != 1.5 || fresh.Queue != 40 || fresh.ErrorRate != 0.4 || !fresh.Reported || fresh.ErrorRateAge != health.ReportFresh {
		t.Errorf("a fresh report counts as %+v", fresh)
	}
	half := r.Figures("pool", 10, start.Add(health.ReportFresh+health.ReportHalfLife))
	if half.CPU != 48 || half.Memory != 45 || half.Pool != 40 || half.Load != 0.75 || half.Queue != 20 || half.ErrorRate != 0.2 {
		t.Errorf("after one half-life it counts as %+v, want half of everything", half)
	}
	shown, _ := r.Metrics("pool", nil, start.Add(2*time.Minute))
	if *shown.CPUUtilization != 96 || *shown.ActiveConnections != 7 || *shown.AverageResponseTime != 12.5 || *shown.ReportAgeMs != 120_000 {
		t.Errorf("it is shown as %+v, want what was reported and its age", shown)
	}
	gone := r.Figures("pool", 10, start.Add(health.ReportMaxAge))
	if gone != (health.Figures{SuccessRate: 1, Score: 100, Vitality: 100}) {
		t.Errorf("after %v it counts as %+v, want nothing", health.ReportMaxAge, gone)
	}
}

func TestRegistry_PartialReportLeavesTheOtherFigures(t *testing.T) {
	r := health.NewRegistry()
	_ = r.Report("pool", events.HealthReport{CPUUtilization: ptr(80.0)}, start)
	later := start.Add(5 * time.Minute)
	_ = r.Report("pool", events.HealthReport{QueueLength: ptr(3)}, later)
	got := r.Figures("pool", 10, later)
	if want := 80 * health.ReportWeight(5*time.Minute); got.Queue != 3 || got.CPU != want {
		t.Errorf("queue %v, CPU %v; want 3, and the older CPU faded to %v", got.Queue, got.CPU, want)
	}
}

func TestRegistry_WorseOfWhatIsMeasuredAndReportedIsShown(t *testing.T) {
	for _, c := range []struct {
		name     string
		measured health.Result
		reported events.HealthReport
		want     float64
	}{
		{"the report", health.Succeeded, events.HealthReport{SuccessRate: ptr(0.25)}, 0.25},
		{"the measurement", health.Failed, events.HealthReport{SuccessRate: ptr(0.25)}, 0},
		{"the reported error rate", health.Succeeded, events.HealthReport{SuccessRate: ptr(1.0), ErrorRate: ptr(0.5)}, 0.5},
		{"the reported success rate", health.Succeeded, events.HealthReport{SuccessRate: ptr(0.5), ErrorRate: ptr(0.0)}, 0.5},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := health.NewRegistry()
			now := attempts(r, "s", repeat(c.measured, 5)...)
			if err := r.Report("s", c.reported, now); err != nil {
				t.Fatal(err)
			}
			if m, _ := r.Metrics("s", nil, now); *m.SuccessRate != c.want {
				t.Errorf("the success rate is shown as %v, want %v", *m.SuccessRate, c.want)
			}
		})
	}
}

func TestRegistry_AttemptsInFlightAreCounted(t *testing.T) {
	r := health.NewRegistry()
	r.Begin("s")
	r.Begin("s")
	if m, ok := r.Metrics("s", nil, start); !ok || m.InFlight != 2 {
		t.Errorf("%d attempts are in flight, want 2", m.InFlight)
	}
	r.Forget(time.Time{}, start)
	r.End("s", health.Unknown, 0, start)
	r.End("s", health.Unknown, 0, start)
	r.End("s", health.Unknown, 0, start)
	if m, ok := r.Metrics("s", nil, start); ok || m.InFlight != 0 {
		t.Errorf("%d attempts are in flight after all ended, want none", m.InFlight)
	}
}

func TestRegistry_WhatTheInstanceLacksCountsForEveryServiceAndItsHostForNone(t *testing.T) {
	r := health.NewRegistry()
	if _, ok := r.Host(); ok {
		t.Error("the host is known before it was measured")
	}
	r.SetHost(health.Host{CPUUtilization: 99, MemoryUtilization: 99, SystemLoad: 9})
	if got := r.Figures("unknown", 10, start); got.Load != 0 || got.CPU != 0 || got.Memory != 0 {
		t.Errorf("on a busy host an unknown service has load %v, CPU %v and memory %v, want 0", got.Load, got.CPU, got.Memory)
	}
	r.SetShortage(health.Shortage{Processor: 1.5, Memory: 60})
	_ = r.Report("busy", events.HealthReport{SystemLoad: ptr(3.0)}, start)
	_ = r.Report("idle", events.HealthReport{SystemLoad: ptr(0.1)}, start)
	for service, want := range map[string]float64{"unknown": 1.5, "busy": 3, "idle": 1.5} {
		if got := r.Figures(service, 10, start); got.Load != want || got.CPU != 0 || got.Memory != 60 {
			t.Errorf("%s has load %v, CPU %v and memory %v, want %v, 0 and 60", service, got.Load, got.CPU, got.Memory, want)
		}
	}
}

func TestRegistry_EndlessServiceNamesFillNoMemory(t *testing.T) {
	r := health.NewRegistry()
	for i := range 3 * health.MaxServices {
		r.End("kept", health.Failed, time.Millisecond, start)
		r.End("s"+strconv.Itoa(i), health.Succeeded, time.Millisecond, start)
	}
	all := r.All(nil, start)
	if len(all) != health.MaxServices {
		t.Errorf("%d services are kept, want %d", len(all), health.MaxServices)
	}
	if m, ok := r.Metrics("kept", nil, start); !ok || m.Samples != health.Samples {
		t.Errorf("the service heard of all the time was evicted: %+v", m)
	}
	for i := range 2 * health.MaxServices {
		if err := r.Report("r"+strconv.Itoa(i), events.HealthReport{CPUUtilization: ptr(1.0)}, start); !errors.Is(err, health.ErrFull) {
			t.Fatalf("report %d of an unknown service gave %v, want ErrFull", i, err)
		}
	}
	if err := r.Report("kept", events.HealthReport{CPUUtilization: ptr(1.0)}, start); err != nil {
		t.Errorf("a report of a known service gave %v", err)
	}
	if got := r.All(nil, start); len(got) != len(all) {
		t.Errorf("reports changed the number of services to %d", len(got))
	}
}

func TestRegistry_MayBeUsedAtOnce(t *testing.T) {
	r := health.NewRegistry()
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 500 {
				now := start.Add(time.Duration(i) * time.Second)
				service := fmt.Sprint("s", i%7)
				r.Begin(service)
				r.Figures(service, 10, now)
				_ = r.Report(service, events.HealthReport{CPUUtilization: ptr(float64(g))}, now)
				r.End(service, health.Failed, time.Millisecond, now)
				r.SetHost(health.Host{SystemLoad: 1})
				r.SetShortage(health.Shortage{Processor: 1})
				if i%100 == 0 {
					r.All(nil, now)
					r.Forget(time.Time{}, now)
				}
			}
		})
	}
	wg.Wait()
	for _, m := range r.All(nil, start.Add(500*time.Second)) {
		if m.Samples != health.Samples || m.InFlight != 0 {
			t.Errorf("%s has %d samples and %d in flight, want %d and 0", m.ServiceType, m.Samples, m.InFlight, health.Samples)
		}
	}
}

// weird draws numbers of every kind.
func weird() *rapid.Generator[float64] {
	return rapid.OneOf(rapid.Float64(), rapid.Float64Range(-10, 200), rapid.SampledFrom([]float64{0, math.NaN(), math.Inf(1), math.Inf(-1), -1, 1e300}))
}

func TestFigures_StayInRange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := health.NewRegistry()
		now := start
		for range rapid.IntRange(0, 250).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(-int64(time.Hour), int64(2*time.Hour)).Draw(t, "passes")))
			switch rapid.IntRange(0, 2).Draw(t, "what") {
			case 0:
				r.Begin("s")
			case 1:
				r.End("s", health.Result(rapid.IntRange(0, 2).Draw(t, "result")), time.Duration(rapid.Int64().Draw(t, "response")), now)
			default:
				figure := func(name string) *float64 {
					if rapid.Bool().Draw(t, "has "+name) {
						return ptr(weird().Draw(t, name))
					}
					return nil
				}
				report := events.HealthReport{
					CPUUtilization: figure("cpu"), MemoryUtilization: figure("memory"), PoolUtilization: figure("pool"), SystemLoad: figure("load"),
					SuccessRate: figure("success"), ErrorRate: figure("errors"), AverageResponseTime: figure("time"),
					QueueLength: ptr(rapid.Int().Draw(t, "queue")), ActiveConnections: ptr(rapid.Int().Draw(t, "connections")),
				}
				if err := r.Report("s", report, now); err != nil {
					t.Fatal(err)
				}
			}
		}
		f := r.Figures("s", rapid.Int().Draw(t, "window"), now)
		within := func(name string, v, low, high float64) {
			if !(v >= low && v <= high) {
				t.Errorf("%s is %v, not between %v and %v", name, v, low, high)
			}
		}
		within("the score", f.Score, 0, 100)
		within("the success rate", f.SuccessRate, 0, 1)
		within("the reported error rate", f.ErrorRate, 0, 1)
		within("CPU", f.CPU, 0, 100)
		within("memory", f.Memory, 0, 100)
		within("pool", f.Pool, 0, 100)
		within("the queue", f.Queue, 0, events.MaxHealthFigure)
		within("the load", f.Load, 0, events.MaxHealthFigure)
		within("the trend", f.Trend, -1, math.MaxFloat64)
		within("the variation", f.Variation, 0, health.Samples)
		within("the window", float64(f.Window), 0, health.Samples)
		within("the age", float64(f.Age), 0, float64(health.MaxAge))
		m, ok := r.Metrics("s", nil, now)
		if !ok {
			return
		}
		within("the score shown", m.HealthScore, 0, 100)
		if m.SuccessRate != nil {
			within("both rates together", *m.SuccessRate+*m.ErrorRate, 1-1e-9, 1+1e-9)
		}
		if m.P95ResponseTime != nil {
			within("the 95th percentile", *m.P95ResponseTime, 0, math.MaxFloat64)
			within("the mean", *m.AverageResponseTime, 0, math.MaxFloat64)
		}
	})
}

func TestScore_MoreFailuresNeverRaiseAndMoreSuccessesNeverLowerIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		results := rapid.SliceOfN(rapid.Bool(), 0, health.Samples-1).Draw(t, "successes")
		score := func(more ...health.Result) float64 {
			r := health.NewRegistry()
			for _, ok := range results {
				result := health.Failed
				if ok {
					result = health.Succeeded
				}
				r.End("s", result, time.Millisecond, start)
			}
			for _, result := range more {
				r.End("s", result, time.Millisecond, start)
			}
			return r.Figures("s", 10, start).Score
		}
		before, failed, succeeded := score(), score(health.Failed), score(health.Succeeded)
		if failed > before || succeeded < before {
			t.Errorf("the score is %v, with one more failure %v, with one more success %v", before, failed, succeeded)
		}
	})
}

func TestScore_WorseFigureNeverRaisesIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := health.Condition{
			Errors: weird().Draw(t, "errors"), Trend: weird().Draw(t, "trend"), ErrorRate: weird().Draw(t, "error rate"), CPU: weird().Draw(t, "cpu"), Memory: weird().Draw(t, "memory"),
			Pool: weird().Draw(t, "pool"), Queue: weird().Draw(t, "queue"), Load: weird().Draw(t, "load"),
		}
		before := c.Score()
		if !(before >= 0 && before <= 100) {
			t.Fatalf("the score is %v", before)
		}
		worse := c
		more := rapid.Float64Range(0, 1e6).Draw(t, "more")
		figures := []*float64{&worse.Errors, &worse.Trend, &worse.ErrorRate, &worse.CPU, &worse.Memory, &worse.Pool, &worse.Queue, &worse.Load}
		*figures[rapid.IntRange(0, len(figures)-1).Draw(t, "which")] += more
		if after := worse.Score(); after > before {
			t.Errorf("the score rose from %v to %v\n%+v\n%+v", before, after, c, worse)
		}
	})
}

func TestFigures_FadingOneNeverCountsMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := health.NewRegistry()
		r.End("s", health.Failed, time.Millisecond, start)
		_ = r.Report("s", events.HealthReport{
			CPUUtilization: ptr(rapid.Float64Range(0, 100).Draw(t, "cpu")), QueueLength: ptr(rapid.IntRange(0, 1000).Draw(t, "queue")),
			SuccessRate: ptr(rapid.Float64Range(0, 1).Draw(t, "success")),
		}, start)
		age := time.Duration(rapid.Int64Range(0, int64(2*health.MaxAge)).Draw(t, "age"))
		later := age + time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "later"))
		a, b := r.Figures("s", 10, start.Add(age)), r.Figures("s", 10, start.Add(later))
		if b.CPU > a.CPU || b.Queue > a.Queue || b.Score < a.Score-1e-9 || health.ReportWeight(later) > health.ReportWeight(age) {
			t.Errorf("at age %v: %+v\nat age %v: %+v", age, a, later, b)
		}
	})
}

func TestFigures_AllocateNothing(t *testing.T) {
	r := health.NewRegistry()
	now := attempts(r, "s", repeat(health.Failed, 100)...)
	_ = r.Report("s", events.HealthReport{CPUUtilization: ptr(90.0)}, now)
	if n := testing.AllocsPerRun(100, func() { r.Figures("s", 10, now) }); n != 0 {
		t.Errorf("reading the figures allocates %v times, want never", n)
	}
}

// TestRegistry_OwnDelayIsNotTakenForTheTargets makes attempts at a target whose response times vary
// by a tenth, and then some that take six times as long.
func TestRegistry_OwnDelayIsNotTakenForTheTargets(t *testing.T) {
	for name, c := range map[string]struct {
		own    time.Duration
		slower bool // whether the target itself counts as slower
	}{
		"the instance was not given a processor":                    {60 * time.Millisecond, false},
		"the target is slower":                                      {0, true},
		"the target is slower and the instance is delayed a little": {5 * time.Millisecond, true},
	} {
		r := health.NewRegistry()
		attempt := func(took, own time.Duration) {
			r.Begin("s")
			r.EndDelayed("s", health.Succeeded, took, own, start)
		}
		for i := range 40 {
			attempt(time.Duration(9+i%3)*time.Millisecond, time.Millisecond)
		}
		for range 10 {
			attempt(60*time.Millisecond, c.own)
		}
		f := r.Figures("s", 10, start)
		if slower := f.Trend > 1; slower != c.slower || c.slower != (f.Variation > 0.5) || f.Trend < -0.1 {
			t.Errorf("%s: trend %.2f and variation %.2f, want the target slower %v", name, f.Trend, f.Variation, c.slower)
		}
	}
}
