package health_test

import (
	"reflect"
	"testing"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/health"
)

func TestMetrics_OfInstancesAreMerged(t *testing.T) {
	a := []health.Metrics{
		{
			ServiceType: "pool", HealthScore: 90, SuccessRate: ptr(1.0), ErrorRate: ptr(0.0), AverageResponseTime: ptr(10.0), P95ResponseTime: ptr(20.0),
			ResponseTimeTrend: ptr(-0.5), Samples: 30, SampleAgeMs: ptr(500.0), InFlight: 1, CPUUtilization: ptr(40.0), ReportAgeMs: ptr(9000.0),
		},
		{ServiceType: "only-a", HealthScore: 100, Samples: 1},
	}
	b := []health.Metrics{
		{ServiceType: "billing", HealthScore: 50},
		{
			ServiceType: "pool", HealthScore: 60, CircuitBreakerState: breaker.HalfOpen, TargetAbsent: true, SuccessRate: ptr(0.5), ErrorRate: ptr(0.5), AverageResponseTime: ptr(50.0), P95ResponseTime: ptr(15.0),
			ResponseTimeTrend: ptr(0.5), Samples: 10, SampleAgeMs: ptr(100.0), InFlight: 2, CPUUtilization: ptr(70.0), QueueLength: ptr(4), ReportAgeMs: ptr(1000.0),
		},
	}
	c := []health.Metrics{{ServiceType: "pool", HealthScore: 100, CircuitBreakerState: breaker.Open, InFlight: 3}}
	want := []health.Metrics{
		{ServiceType: "billing", HealthScore: 50},
		{ServiceType: "only-a", HealthScore: 100, Samples: 1},
		{
			ServiceType: "pool", HealthScore: 60, CircuitBreakerState: breaker.Open, TargetAbsent: true, SuccessRate: ptr(0.5), ErrorRate: ptr(0.5), AverageResponseTime: ptr(50.0), P95ResponseTime: ptr(15.0),
			ResponseTimeTrend: ptr(0.5), Samples: 10, SampleAgeMs: ptr(100.0), InFlight: 6, CPUUtilization: ptr(70.0), QueueLength: ptr(4), ReportAgeMs: ptr(1000.0),
		},
	}
	for name, in := range map[string][][]health.Metrics{"in one order": {a, b, c}, "in the other": {c, b, a}} {
		if got := health.Merge(in...); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: merged to\n%+v\nwant\n%+v", name, got, want)
		}
	}
	if got := health.Merge(); got == nil || len(got) != 0 {
		t.Errorf("nothing merges to %v, want an empty list", got)
	}
}
