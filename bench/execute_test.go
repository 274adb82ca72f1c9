package main

import (
	"context"
	"testing"

	"github.com/cenkalti/backoff/v5"
	executor "github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/retrypolicy"

	"github.com/rebound-mq/rebound/client"
)

// Each library executes one operation that succeeds at once, as nearly all do; the function alone
// is the baseline.

// A variable keeps the compiler from inlining the call.
var answer = func(context.Context) (int, error) { return 42, nil }

func BenchmarkExecuteFirstSuccess(b *testing.B) {
	c, err := client.New(b.Context(), client.Config{})
	if err != nil {
		b.Fatal(err)
	}
	for _, bc := range []struct {
		name string
		do   func(context.Context) (int, error)
	}{
		{"the function alone", answer},
		{"rebound", withRebound(c, &client.Call{Service: "billing", Operation: "charge"})},
		{"rebound with a breaker", withRebound(c, &client.Call{Service: "session_manager", Operation: "create_session"})},
		{"cenkalti/backoff", withBackoff()},
		{"failsafe-go", withFailsafe(executor.With[int](retrypolicy.NewWithDefaults[int]()))},
		{"failsafe-go with a breaker", withFailsafe(executor.With[int](retrypolicy.NewWithDefaults[int](), circuitbreaker.NewWithDefaults[int]()))},
	} {
		b.Run(bc.name, func(b *testing.B) {
			ctx := context.Background()
			b.ReportAllocs()
			for b.Loop() {
				if n, err := bc.do(ctx); n != 42 || err != nil {
					b.Fatalf("got %d, %v, want 42", n, err)
				}
			}
		})
	}
}

func withRebound(c *client.Client, p *client.Call) func(context.Context) (int, error) {
	return func(ctx context.Context) (int, error) { return client.Execute(ctx, c, p, answer) }
}

func withBackoff() func(context.Context) (int, error) {
	return func(ctx context.Context) (int, error) {
		return backoff.Retry(ctx, func() (int, error) { return answer(ctx) }, backoff.WithMaxTries(5))
	}
}

func withFailsafe(e executor.Executor[int]) func(context.Context) (int, error) {
	return func(ctx context.Context) (int, error) {
		return e.WithContext(ctx).GetWithExecution(func(x executor.Execution[int]) (int, error) { return answer(x.Context()) })
	}
}
