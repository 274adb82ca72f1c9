package breaker

import (
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
	if _, err := group.Hold(b.Context(), "billing:charge", Operator{}); err != nil {
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
