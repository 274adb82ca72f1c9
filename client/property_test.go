package client_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/rebound-mq/rebound/client"
)

// For any sequence of results, Execute makes no more attempts than the policy allows and none
// after a failure that is not retryable; it returns the first success or an error with the last
// failure.
func TestExecute_NeverDoesMoreThanItMay(t *testing.T) {
	transient, permanent := errors.New("connection refused"), client.NotRetryable(errors.New("refused"))
	rapid.Check(t, func(rt *rapid.T) {
		script := rapid.SliceOfN(rapid.SampledFrom([]error{nil, transient, transient, permanent}), 1, 6).Draw(rt, "script")
		bound := rapid.IntRange(1, 6).Draw(rt, "attempts")
		most := min(bound, 4) // the policy's maxAttempts
		// Attempts beyond the end of the script fail.
		at := func(n int) error {
			if n > len(script) {
				return transient
			}
			return script[n-1]
		}
		want := 1
		for want < most && errors.Is(at(want), transient) {
			want++
		}

		var (
			calls []int
			got   int
			err   error
			took  time.Duration
		)
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			got, err = client.Execute(t.Context(), local(t), &client.Call{Service: "a", Operation: "b"}, func(ctx context.Context) (int, error) {
				calls = append(calls, client.AttemptFrom(ctx))
				return len(calls), at(len(calls))
			}, client.WithMaxAttempts(bound))
			took = time.Since(start)
		})

		if len(calls) != want || !slices.IsSorted(calls) || calls[len(calls)-1] != want {
			rt.Fatalf("attempts %v were made, want %d", calls, want)
		}
		if delays := 100 * time.Millisecond * (1<<(want-1) - 1); took != delays {
			rt.Fatalf("it took %v, want the delays of %v", took, delays)
		}
		last := at(want)
		switch {
		case last == nil && (err != nil || got != want):
			rt.Fatalf("got %d, %v, want the result of attempt %d", got, err, want)
		case last != nil && (got != 0 || !errors.Is(err, last)):
			rt.Fatalf("got %d, %v, want an error with %v", got, err, last)
		case last != nil && errors.Is(err, client.ErrExhausted) != errors.Is(last, transient):
			rt.Fatalf("got %v after %v", err, last)
		}
	})
}
