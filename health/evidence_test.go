package health_test

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/health"
)

func TestEvidence_AgesAreThoseOfTheDatedAttempts(t *testing.T) {
	for count := range events.MaxResults + 1 {
		r := health.NewRegistry()
		for i := range count {
			r.End("s", health.Failed, time.Millisecond, start.Add(time.Duration(i-count)*time.Millisecond))
		}
		var ages []int64
		for _, e := range r.Share(present, false, start) {
			ages = e.Ages
		}
		var want []int64
		for _, k := range events.ResultsDated(count) {
			want = append(want, int64(k)+1)
		}
		if !slices.Equal(ages, want) {
			t.Errorf("of %d attempts the ages are %v, want %v", count, ages, want)
		}
	}
}

// present says that all targets are listened to.
func present(string) bool { return false }

func open(service string) map[string]breaker.State {
	return map[string]breaker.State{service: breaker.Open}
}

func TestScore_DoesNotRiseByTimeAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := health.NewRegistry()
		now := start
		for range rapid.IntRange(1, 150).Draw(t, "attempts") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "passes")))
			r.End("s", rapid.SampledFrom([]health.Result{health.Succeeded, health.Failed}).Draw(t, "result"), time.Millisecond, now)
		}
		if rapid.Bool().Draw(t, "reports") {
			_ = r.Report("s", events.HealthReport{ErrorRate: ptr(rapid.Float64Range(0, 1).Draw(t, "error rate"))}, now.Add(time.Nanosecond))
		}
		before, _ := r.Metrics("s", nil, now.Add(time.Nanosecond))
		later := time.Duration(rapid.Int64Range(0, int64(health.MaxAge)).Draw(t, "later"))
		if after, ok := r.Metrics("s", nil, now.Add(later)); ok && (after.HealthScore > before.HealthScore || *after.SuccessRate > *before.SuccessRate) {
			t.Errorf("after %v the score is %v and the success rate %v, want no more than %v and %v", later, after.HealthScore, *after.SuccessRate, before.HealthScore, *before.SuccessRate)
		}
	})
}

func TestScore_ReportedErrorsStayUntilAnAttemptSucceeds(t *testing.T) {
	r := health.NewRegistry()
	if err := r.Report("s", events.HealthReport{ErrorRate: ptr(1.0)}, start); err != nil {
		t.Fatal(err)
	}
	late := start.Add(health.ReportMaxAge + time.Minute)
	if m, ok := r.Metrics("s", nil, late); !ok || m.HealthScore != 0 {
		t.Errorf("the score of a service that reported nothing but errors and fell silent is %v, want 0", m.HealthScore)
	}
	r.End("s", health.Succeeded, time.Millisecond, late)
	if m, _ := r.Metrics("s", nil, late); m.HealthScore != 100 {
		t.Errorf("after an attempt that succeeded the score is %v, want 100", m.HealthScore)
	}
}

// A service that was well goes down: five failures open its breaker, then one probe fails each
// ten seconds.
func TestScore_ServiceThatIsDownReadsSo(t *testing.T) {
	r := health.NewRegistry()
	now := start
	for range health.Samples {
		now = now.Add(100 * time.Millisecond)
		r.End("s", health.Succeeded, time.Millisecond, now)
	}
	for range 5 {
		now = now.Add(100 * time.Millisecond)
		r.End("s", health.Failed, health.NoResponse, now)
	}
	m, _ := r.Metrics("s", open("s"), now)
	if m.HealthScore > 40 || *m.SuccessRate > 0.8 || m.CircuitBreakerState != breaker.Open {
		t.Errorf("when the breaker opens the health is %.1f, the success rate %.2f, the breaker %v; want at most 40, 0.8 and OPEN", m.HealthScore, *m.SuccessRate, m.CircuitBreakerState)
	}
	for range 6 {
		now = now.Add(10 * time.Second)
		r.End("s", health.Failed, health.NoResponse, now)
	}
	if m, _ = r.Metrics("s", open("s"), now); m.HealthScore > 15 || *m.SuccessRate > 0.15 {
		t.Errorf("after a minute of failed probes the health is %.1f, the success rate %.2f; want at most 15 and 0.15", m.HealthScore, *m.SuccessRate)
	}
	for range 60 {
		now = now.Add(100 * time.Millisecond)
		r.End("s", health.Succeeded, time.Millisecond, now)
	}
	if m, _ = r.Metrics("s", nil, now); m.HealthScore < 80 || *m.SuccessRate < 0.9 {
		t.Errorf("60 successes later the health is %.1f, the success rate %.2f; want at least 80 and 0.9", m.HealthScore, *m.SuccessRate)
	}
}

func TestScore_StaysLowWhileABreakerIsNotClosedOrATargetIsAbsent(t *testing.T) {
	r := health.NewRegistry()
	now := attempts(r, "s", repeat(health.Succeeded, 50)...)
	for _, state := range []breaker.State{breaker.Open, breaker.HalfOpen} {
		if m, _ := r.Metrics("s", map[string]breaker.State{"s": state}, now); m.HealthScore != 40 || m.CircuitBreakerState != state {
			t.Errorf("with a breaker %v the health is %v, %v; want 40", state, m.HealthScore, m.CircuitBreakerState)
		}
	}
	if all := r.All(open("other"), now); len(all) != 2 || all[0].ServiceType != "other" || all[0].HealthScore != 40 {
		t.Errorf("a service of which only the breaker is known is shown as %+v, want a health of 40", all)
	}
	r.Share(func(string) bool { return true }, false, now)
	if m, _ := r.Metrics("s", nil, now); m.HealthScore != 40 || !m.TargetAbsent {
		t.Errorf("while nobody listens the health is %v, absent %v; want 40 and true", m.HealthScore, m.TargetAbsent)
	}
	r.Share(present, false, now)
	if m, _ := r.Metrics("s", nil, now); m.HealthScore != 100 || m.TargetAbsent {
		t.Errorf("when somebody listens again the health is %v, absent %v; want 100 and false", m.HealthScore, m.TargetAbsent)
	}
	if f := r.Figures("s", 10, now); f.Score != 100 {
		t.Errorf("decisions on the service's other keys see the score %v, want 100", f.Score)
	}
}

func TestCircuits_WorstKeyCounts(t *testing.T) {
	got := health.Circuits(map[string]breaker.State{
		"a:x": breaker.HalfOpen, "a:y": breaker.Open, "a:z": breaker.Closed, "b:x": breaker.HalfOpen, "b:y": breaker.Closed, "c:x": breaker.Closed,
	})
	if len(got) != 2 || got["a"] != breaker.Open || got["b"] != breaker.HalfOpen {
		t.Errorf("the services' breakers are %v, want a OPEN, b HALF_OPEN and no other", got)
	}
}

func TestScore_BusyProcessorCountsOnce(t *testing.T) {
	cpu, load, both := health.Condition{CPU: 100}, health.Condition{Load: 2}, health.Condition{CPU: 100, Load: 2}
	if cpu.Score() != 70 || load.Score() != 80 || both.Score() != 70 {
		t.Errorf("a busy CPU gives %v, a load %v, both %v; want 70, 80, 70", cpu.Score(), load.Score(), both.Score())
	}
}

// instances are registries that share what they measure each second.
type instances []*health.Registry

func (all instances) share(everything bool, now time.Time) {
	for i, from := range all {
		evidence := from.Share(present, everything, now)
		for j, to := range all {
			if i != j {
				to.HearEvidence(strconv.Itoa(i), evidence, now)
			}
		}
	}
}

func TestEvidence_AllInstancesShowTheSameHealth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := instances{health.NewRegistry(), health.NewRegistry(), health.NewRegistry()}
		now := start
		for range rapid.IntRange(1, 120).Draw(t, "attempts") {
			now = now.Add(time.Duration(rapid.Int64Range(1, 20_000).Draw(t, "milliseconds")) * time.Millisecond)
			result := rapid.SampledFrom([]health.Result{health.Succeeded, health.Failed}).Draw(t, "result")
			all[rapid.IntRange(0, 2).Draw(t, "instance")].End("s", result, 20*time.Millisecond, now)
		}
		all.share(false, now)
		first, _ := all[0].Metrics("s", nil, now)
		for _, r := range all[1:] {
			m, ok := r.Metrics("s", nil, now)
			if !ok || math.Abs(m.HealthScore-first.HealthScore) > 1 || math.Abs(*m.SuccessRate-*first.SuccessRate) > 0.01 || math.Abs(*m.AverageResponseTime-20) > 1e-3 {
				t.Fatalf("the first shows %.1f, %.2f; another %.1f, %.2f", first.HealthScore, *first.SuccessRate, m.HealthScore, *m.SuccessRate)
			}
			a, b := all[0].Figures("s", 10, now), r.Figures("s", 10, now)
			if a.Window != b.Window || math.Abs(a.SuccessRate-b.SuccessRate) > 1e-9 {
				t.Fatalf("of the last 10 attempts the first sees %d with %v, another %d with %v", a.Window, a.SuccessRate, b.Window, b.SuccessRate)
			}
		}
	})
}

func TestEvidence_LastAttemptsOfAllInstancesCountInTheirOrder(t *testing.T) {
	all := instances{health.NewRegistry(), health.NewRegistry()}
	now := start
	for i := range 20 { // every second attempt fails, at the second instance
		now = now.Add(time.Second)
		all[i%2].End("s", health.Result(1+i%2), time.Millisecond, now)
	}
	all.share(false, now)
	for i, r := range all {
		if f := r.Figures("s", 10, now); f.Window != 10 || f.SuccessRate != 0.5 {
			t.Errorf("instance %d sees %v of the last %d attempts succeed, want half of 10", i, f.SuccessRate, f.Window)
		}
		if m, _ := r.Metrics("s", nil, now); m.Samples != 20 {
			t.Errorf("instance %d knows of %d attempts, want 20", i, m.Samples)
		}
	}
}

func TestEvidence_IsSharedWhenItChangesAndThenEveryTenSeconds(t *testing.T) {
	r := health.NewRegistry()
	r.End("s", health.Failed, time.Millisecond, start)
	for _, c := range []struct {
		after time.Duration
		all   bool
		want  int
	}{{0, false, 1}, {time.Second, false, 0}, {2 * time.Second, true, 1}, {11 * time.Second, false, 0}, {12 * time.Second, false, 1}, {2 * time.Hour, true, 0}} {
		if got := r.Share(present, c.all, start.Add(c.after)); len(got) != c.want {
			t.Errorf("after %v %d services are shared, want %d", c.after, len(got), c.want)
		}
	}
}

func TestEvidence_ManyServicesTakeTurns(t *testing.T) {
	all := instances{health.NewRegistry(), health.NewRegistry()}
	const services = 3 * events.MaxEvidence
	for i := range services {
		all[0].End(fmt.Sprint("s", i), health.Failed, time.Millisecond, start)
	}
	for second := range 3 {
		if n := len(all[0].Share(present, false, start.Add(time.Duration(second)*time.Second))); n != events.MaxEvidence {
			t.Errorf("in second %d %d services are shared, want %d", second, n, events.MaxEvidence)
		}
	}
	if n := len(all[0].Share(present, false, start.Add(3*time.Second))); n != 0 {
		t.Errorf("after three reports %d services are not shared, want none", n)
	}
}

func TestEvidence_OfManyInstancesIsBounded(t *testing.T) {
	r := health.NewRegistry()
	for i := range 3 * health.MaxInstances {
		one := instances{health.NewRegistry(), r}
		one[0].End("s", health.Failed, time.Millisecond, start)
		r.HearEvidence(strconv.Itoa(i), one[0].Share(present, false, start), start)
	}
	if m, _ := r.Metrics("s", nil, start); m.Samples == 0 || m.Samples > health.Samples {
		t.Errorf("%d attempts are known, want some and at most %d", m.Samples, health.Samples)
	}
	for i := range 2 * health.MaxServices {
		r.HearEvidence("x", []events.ServiceEvidence{{Service: fmt.Sprint("s", i), Results: 1, Count: 1, Ages: []int64{0}}}, start)
	}
	if n := len(r.All(nil, start)); n != health.MaxServices {
		t.Errorf("%d services are kept, want %d", n, health.MaxServices)
	}
}
