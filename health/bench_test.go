package health_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/health"
)

// full returns a registry with 1,000 services of which everything is known.
func full() (r *health.Registry, names []string) {
	r = health.NewRegistry()
	for i := range 1000 {
		name := "service-" + strconv.Itoa(i)
		names = append(names, name)
		attempts(r, name, repeat(health.Failed, health.Samples)...)
		_ = r.Report(name, events.HealthReport{
			CPUUtilization: ptr(90.0), MemoryUtilization: ptr(90.0), PoolUtilization: ptr(90.0), SystemLoad: ptr(2.0), QueueLength: ptr(40), ErrorRate: ptr(0.1),
		}, start.Add(time.Second*health.Samples))
	}
	r.SetHost(health.Host{SystemLoad: 1})
	return r, names
}

func BenchmarkFigures(b *testing.B) {
	r, names := full()
	for name, age := range map[string]time.Duration{"fresh": 0, "fading": 3 * time.Minute} {
		now := start.Add(time.Second*health.Samples + age)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				r.Figures(names[i%8], 10, now)
			}
		})
	}
}

func BenchmarkFiguresAtOnce(b *testing.B) {
	r, names := full()
	now := start.Add(time.Second * health.Samples)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			r.Figures(names[i%8], 10, now)
		}
	})
}

func BenchmarkAttempt(b *testing.B) {
	r, names := full()
	now := start.Add(time.Second * health.Samples)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r.Begin(names[i%8])
		r.End(names[i%8], health.Succeeded, 10*time.Millisecond, now)
	}
}

func BenchmarkMetrics(b *testing.B) {
	r, names := full()
	now := start.Add(time.Second * health.Samples)
	b.ReportAllocs()
	for b.Loop() {
		r.Metrics(names[0], nil, now)
	}
}

func BenchmarkView(b *testing.B) {
	for _, n := range []int{1, 3, health.MaxInstances} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			r := register("own")
			for i := range n - 1 {
				if _, err := r.Heard(serving("i"+strconv.Itoa(i)), start); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				_ = r.View(start, events.Backpressure{}, 0)
			}
		})
	}
}
