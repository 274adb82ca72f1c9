package breaker

import (
	"slices"
	"testing"
	"time"
)

func BenchmarkAllowAndRecord(b *testing.B) {
	rate := Settings{FailureRate: 0.5, Window: time.Minute}
	for _, test := range []struct {
		name     string
		settings Settings
		result   func(i int) Result
	}{
		{"success", Settings{}, func(int) Result { return Success }},
		{"success, with a failure rate", rate, func(int) Result { return Success }},
		{"one failure in ten", Settings{}, func(i int) Result {
			if i%10 == 0 {
				return Failure
			}
			return Success
		}},
	} {
		b.Run(test.name, func(b *testing.B) {
			breaker := NewGroup(Config{}).Breaker("billing:charge", test.settings)
			ctx, now := b.Context(), time.Now()
			b.ReportAllocs()
			for i := range b.N {
				p, err := breaker.Allow(ctx, now)
				if err != nil {
					b.Fatal(err)
				}
				p.Done(test.result(i), time.Millisecond, now)
			}
		})
	}
	b.Run("success, in parallel", func(b *testing.B) {
		breaker := NewGroup(Config{}).Breaker("billing:charge", Settings{})
		ctx, now := b.Context(), time.Now()
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				p, err := breaker.Allow(ctx, now)
				if err != nil {
					b.Fatal(err)
				}
				p.Done(Success, time.Millisecond, now)
			}
		})
	})
}

func BenchmarkRefusal(b *testing.B) {
	group := NewGroup(Config{})
	breaker := group.Breaker("billing:charge", Settings{})
	if _, err := group.Hold(b.Context(), "billing:charge", ""); err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := breaker.Allow(b.Context(), now); err == nil {
			b.Fatal("a held breaker gave a permit")
		}
	}
}

// BenchmarkChange measures, on each store, how long a transition takes at the
// instance that makes it (transition) and how long after the failure that opens a
// breaker another instance refuses (refusal).
func BenchmarkChange(b *testing.B) {
	for _, kind := range stores {
		b.Run(kind.name, func(b *testing.B) {
			all := fleet(b, kind.make(b, 2), Settings{Threshold: 1, Timeout: time.Hour})
			here, there := all[0], all[1]
			var transitions, refusals []time.Duration
			b.ResetTimer()
			for range b.N {
				began := time.Now()
				here.fail(b, 1)
				awaitState(there, Open)
				refusals = append(refusals, time.Since(began))
				awaitState(here, Open)

				began = time.Now()
				if _, err := there.Reset(b.Context(), key, ""); err != nil {
					b.Fatal(err)
				}
				transitions = append(transitions, time.Since(began))
				awaitState(here, Closed)
			}
			report(b, "transition", transitions)
			report(b, "refusal", refusals)
		})
	}
}

func awaitState(i *instance, s State) {
	for i.State() != s {
		time.Sleep(10 * time.Microsecond)
	}
}

func report(b *testing.B, what string, d []time.Duration) {
	b.Helper()
	slices.Sort(d)
	b.ReportMetric(d[len(d)/2].Seconds()*1000, what+"-p50-ms")
	b.ReportMetric(d[len(d)*99/100].Seconds()*1000, what+"-p99-ms")
}
