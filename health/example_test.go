package health_test

import (
	"fmt"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/health"
)

// Half of the attempts at a service fail, and it reports a busy CPU.
func ExampleRegistry() {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	r := health.NewRegistry()
	for _, result := range []health.Result{health.Succeeded, health.Failed, health.Succeeded, health.Failed} {
		r.Begin("connection_pool")
		r.End("connection_pool", result, 40*time.Millisecond, now)
	}
	cpu := 85.0
	if err := r.Report("connection_pool", events.HealthReport{CPUUtilization: &cpu}, now); err != nil {
		fmt.Println(err)
	}

	f := r.Figures("connection_pool", 10, now)
	fmt.Printf("score %.0f, success rate %.2f of %d, CPU %.0f %%\n", f.Score, f.SuccessRate, f.Window, f.CPU)

	f = r.Figures("connection_pool", 10, now.Add(2*time.Minute))
	fmt.Printf("score %.0f, success rate %.2f of %d, CPU %.1f %%\n", f.Score, f.SuccessRate, f.Window, f.CPU)
	// Output:
	// score 57, success rate 0.50 of 4, CPU 85 %
	// score 75, success rate 0.50 of 4, CPU 42.5 %
}

// One failure in ten attempts, response times up by half, and a queue.
func ExampleCondition_Score() {
	c := health.Condition{Errors: 0.1, Trend: 0.5, Queue: 100}
	fmt.Printf("%.1f\n", c.Score())
	// Output: 65.0
}

func ExampleReportWeight() {
	for _, age := range []time.Duration{30 * time.Second, 2 * time.Minute, 3 * time.Minute, 10 * time.Minute} {
		fmt.Println(age, health.ReportWeight(age))
	}
	// Output:
	// 30s 1
	// 2m0s 0.5
	// 3m0s 0.25
	// 10m0s 0
}

func ExampleMerge() {
	before, now, older, newer := 0.5, 0.4, 900.0, 20.0
	for _, m := range health.Merge(
		[]health.Metrics{{ServiceType: "billing", HealthScore: 40, SuccessRate: &now, Samples: 10, SampleAgeMs: &newer}},
		[]health.Metrics{{ServiceType: "billing", HealthScore: 50, SuccessRate: &before, Samples: 9, SampleAgeMs: &older}},
	) {
		fmt.Printf("%s: score %.0f, success rate %.2f of %d\n", m.ServiceType, m.HealthScore, *m.SuccessRate, m.Samples)
	}
	// Output: billing: score 40, success rate 0.40 of 10
}

// Two instances, one of them on an overloaded host.
func ExampleRegister() {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	own := events.InstanceReport{ID: "a", State: events.InstanceServing, InFlight: 30, Succeeded: 90, Failed: 10, Capacity: events.Capacity{Overload: 0.5}}
	other := events.InstanceReport{ID: "b", State: events.InstanceServing, InFlight: 10, Succeeded: 50, Failed: 50, Capacity: events.Capacity{Overload: 2}}
	r := health.NewRegister("retry", own, now)
	if _, err := r.Heard(other, now); err != nil {
		fmt.Println(err)
	}

	c := r.View(now, events.Backpressure{}, 0)
	fmt.Printf("%d instances, %d active retries, failure rate %.2f\n", c.TotalInstances, c.ActiveRetries, c.GlobalFailureRate)
	fmt.Printf("a should take %.2f, b %.2f\n", c.RecommendedDistribution["a"], c.RecommendedDistribution["b"])

	for range 3 { // its own reports come back, and none of b
		now = now.Add(time.Second)
		_, _ = r.Heard(own, now) // the error says that it is its own
	}
	c = r.View(now, events.Backpressure{}, 0)
	fmt.Printf("when b is silent for %v: %d instance\n", health.InstanceLease, c.TotalInstances)
	// Output:
	// 2 instances, 40 active retries, failure rate 0.30
	// a should take 0.80, b 0.20
	// when b is silent for 3s: 1 instance
}
