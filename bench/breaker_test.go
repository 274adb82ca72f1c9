package main

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/sony/gobreaker/v2"

	"github.com/rebound-mq/rebound/breaker"
)

// Each breaker opens after five failures in a row; with a failure rate, also at one half over a
// minute.

// allowAndRecord is one attempt: ask the breaker, then report the result.
type allowAndRecord func(fail bool)

var breakers = []struct {
	name string
	make func(b *testing.B) allowAndRecord
}{
	{"rebound", func(b *testing.B) allowAndRecord {
		return rebound(b, breaker.Settings{})
	}},
	{"rebound with a failure rate", func(b *testing.B) allowAndRecord {
		return rebound(b, breaker.Settings{FailureRate: 0.5, Window: time.Minute})
	}},
	// Callers of Rebound pass the time, which they usually have; the other breakers read the
	// clock themselves. This is Rebound with the reading.
	{"rebound and time.Now", func(b *testing.B) allowAndRecord {
		br := breaker.NewGroup(breaker.Config{}).Breaker("billing:charge", breaker.Settings{})
		ctx := b.Context()
		return func(fail bool) { attempt(ctx, b, br, time.Now(), fail) }
	}},
	{"gobreaker two-step", func(b *testing.B) allowAndRecord {
		cb := gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= 5 }})
		return func(fail bool) {
			done, err := cb.Allow()
			if err != nil {
				b.Fatal(err)
			}
			done(failure(fail))
		}
	}},
	{"gobreaker Execute", func(b *testing.B) allowAndRecord {
		cb := gobreaker.NewCircuitBreaker[any](gobreaker.Settings{ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= 5 }})
		return func(fail bool) {
			_, err := cb.Execute(func() (any, error) { return nil, failure(fail) })
			if errors.Is(err, gobreaker.ErrOpenState) {
				b.Fatal(err)
			}
		}
	}},
	{"failsafe-go", func(b *testing.B) allowAndRecord {
		return failsafe(b, circuitbreaker.NewBuilder[any]().WithFailureThreshold(5).Build())
	}},
	{"failsafe-go with a failure rate", func(b *testing.B) allowAndRecord {
		return failsafe(b, circuitbreaker.NewBuilder[any]().WithFailureRateThreshold(0.5, 20, time.Minute).Build())
	}},
}

var errTarget = errors.New("target failed")

func failure(fail bool) error {
	if fail {
		return errTarget
	}
	return nil
}

func rebound(b *testing.B, s breaker.Settings) allowAndRecord {
	br := breaker.NewGroup(breaker.Config{}).Breaker("billing:charge", s)
	ctx, now := b.Context(), time.Now()
	return func(fail bool) { attempt(ctx, b, br, now, fail) }
}

func attempt(ctx context.Context, b *testing.B, br *breaker.Breaker, now time.Time, fail bool) {
	p, err := br.Allow(ctx, now)
	if err != nil {
		b.Fatal(err)
	}
	result := breaker.Success
	if fail {
		result = breaker.Failure
	}
	p.Done(result, time.Millisecond, now)
}

func failsafe(b *testing.B, cb circuitbreaker.CircuitBreaker[any]) allowAndRecord {
	return func(fail bool) {
		if !cb.TryAcquirePermit() {
			b.Fatal("no permit")
		}
		if fail {
			cb.RecordFailure()
		} else {
			cb.RecordSuccess()
		}
	}
}

func BenchmarkBreakerSuccess(b *testing.B) {
	for _, br := range breakers {
		b.Run(br.name, func(b *testing.B) {
			do := br.make(b)
			b.ReportAllocs()
			for b.Loop() {
				do(false)
			}
		})
	}
}

func BenchmarkBreakerOneFailureInTen(b *testing.B) {
	for _, br := range breakers {
		b.Run(br.name, func(b *testing.B) {
			do := br.make(b)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				do(i%10 == 0)
			}
		})
	}
}

func BenchmarkBreakerInParallel(b *testing.B) {
	for _, br := range breakers {
		b.Run(br.name, func(b *testing.B) {
			do := br.make(b)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					do(false)
				}
			})
		})
	}
}
