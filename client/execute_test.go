package client_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/client"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

var errBusy = &client.Error{Code: "503", Message: "busy"}

// failing returns a function that fails with err so many times and then returns the number of its
// call.
func failing(times int, err error) (fn func(context.Context) (int, error), calls *atomic.Int64) {
	calls = new(atomic.Int64)
	return func(context.Context) (int, error) {
		if n := calls.Add(1); n > int64(times) {
			return int(n), nil
		}
		return 0, err
	}, calls
}

const always = 1 << 30

func TestExecute_ReturnsTheFirstSuccess(t *testing.T) {
	for failures := range 4 {
		t.Run(fmt.Sprintf("after %d failures", failures), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := local(t)
				fn, calls := failing(failures, errBusy)
				start := time.Now()
				got, err := client.Execute(t.Context(), c, &client.Call{Service: "billing", Operation: "charge"}, fn)
				if err != nil || got != failures+1 || calls.Load() != int64(failures+1) {
					t.Errorf("got %d, %v after %d calls, want the result of call %d", got, err, calls.Load(), failures+1)
				}
				want := 100 * time.Millisecond * (1<<failures - 1)
				if took := time.Since(start); took != want {
					t.Errorf("waited %v in all, want the policy's delays of %v", took, want)
				}
			})
		})
	}
}

func TestExecute_EndsWithATypedError(t *testing.T) {
	type ended struct {
		is       error
		attempts int
	}
	for name, tc := range map[string]struct {
		service string
		err     error
		options []client.ExecuteOption
		want    ended
		check   func(error) string
	}{
		"exhausted when the policy's attempts are used up": {"billing", errBusy, nil, ended{client.ErrExhausted, 4}, func(err error) string {
			var e *client.ExhaustedError
			if !errors.As(err, &e) || e.Reason != events.ReasonExhausted || e.Key != "billing:charge" || e.Attempts != 4 || !errors.Is(e.Last, errBusy) {
				return fmt.Sprintf("%+v", e)
			}
			return ""
		}},
		"exhausted when the attempts of the call are used up": {"billing", errBusy, []client.ExecuteOption{client.WithMaxAttempts(2)}, ended{client.ErrExhausted, 2}, nil},
		"exhausted when maxElapsedTime is over": {"hurried", errBusy, nil, ended{client.ErrExhausted, 2}, func(err error) string {
			var e *client.ExhaustedError
			if !errors.As(err, &e) || e.Reason != events.ReasonMaxElapsed {
				return fmt.Sprintf("%+v", e)
			}
			return ""
		}},
		"not retryable by the code": {"billing", &client.Error{Code: "404"}, nil, ended{client.ErrNotRetryable, 1}, func(err error) string {
			var e *client.NotRetryableError
			if !errors.As(err, &e) || e.Rule != policy.RuleNotFound || e.Attempts != 1 {
				return fmt.Sprintf("%+v", e)
			}
			return ""
		}},
		"not retryable by the caller's word":                {"billing", client.NotRetryable(errBusy), nil, ended{client.ErrNotRetryable, 1}, nil},
		"not retryable when a rule's limit is reached":      {"session_manager", &client.Error{Code: "SESSION_EXPIRED"}, nil, ended{client.ErrNotRetryable, 2}, nil},
		"unavailable when its failures open the breaker":    {"guarded", errBusy, nil, ended{client.ErrBreakerOpen, 2}, nil},
		"not unavailable by failures that are the caller's": {"guarded", &client.Error{Code: "409"}, nil, ended{client.ErrExhausted, 4}, nil},
		"exhausted by the last retry of its budget":         {"budgeted", errBusy, nil, ended{client.ErrExhausted, 4}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fn, calls := failing(always, tc.err)
				got, err := client.Execute(t.Context(), local(t), &client.Call{Service: tc.service, Operation: "charge"}, fn, tc.options...)
				if got != 0 || !errors.Is(err, tc.want.is) || calls.Load() != int64(tc.want.attempts) {
					t.Fatalf("got %d, %v after %d calls, want %v after %d", got, err, calls.Load(), tc.want.is, tc.want.attempts)
				}
				if !errors.Is(err, tc.err) {
					t.Errorf("%v does not unwrap to the last error %v", err, tc.err)
				}
				if tc.check != nil {
					if wrong := tc.check(err); wrong != "" {
						t.Errorf("the error is %s", wrong)
					}
				}
			})
		})
	}
}

func TestExecute_SpentBudgetEndsTheCallAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := local(t), &client.Call{Service: "budgeted", Operation: "charge"}
		fn, _ := failing(always, errBusy)
		if _, err := client.Execute(t.Context(), c, p, fn); !errors.Is(err, client.ErrExhausted) {
			t.Fatalf("with a budget of 3 retries got %v, want 3 retries", err)
		}
		start := time.Now()
		fn, calls := failing(always, errBusy)
		_, err := client.Execute(t.Context(), c, p, fn)
		var limited *client.RateLimitedError
		if !errors.As(err, &limited) || limited.Limit != "retryBudgetPerMinute" || limited.Attempts != 1 || !errors.Is(err, errBusy) || calls.Load() != 1 {
			t.Fatalf("with a spent budget got %v after %d calls, want a RateLimitedError after the first", err, calls.Load())
		}
		if time.Since(start) != 0 {
			t.Errorf("waited %v, want no delay before a retry that will be refused", time.Since(start))
		}
		if in := time.Until(limited.RetryAt); in <= 58*time.Second || in > 62*time.Second {
			t.Errorf("a retry is allowed in %v, want about a minute", in)
		}
		time.Sleep(time.Until(limited.RetryAt))
		fn, calls = failing(1, errBusy)
		if _, err := client.Execute(t.Context(), c, p, fn); err != nil {
			t.Errorf("at RetryAt got %v after %d calls, want a retry that succeeds", err, calls.Load())
		}
	})
}

func TestExecute_OpenBreakerRefusesUntilItsNextAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := local(t), &client.Call{Service: "guarded", Operation: "charge"}
		fn, _ := failing(always, errBusy)
		if _, err := client.Execute(t.Context(), c, p, fn); !errors.Is(err, client.ErrBreakerOpen) {
			t.Fatalf("got %v, want the breaker to open", err)
		}
		fn, calls := failing(0, nil)
		_, err := client.Execute(t.Context(), c, p, fn)
		var unavailable *client.BreakerOpenError
		if !errors.As(err, &unavailable) || !errors.Is(err, breaker.ErrOpen) || unavailable.Attempts != 0 || unavailable.Last != nil || calls.Load() != 0 {
			t.Fatalf("with an open breaker got %v after %d calls, want a BreakerOpenError and no call", err, calls.Load())
		}
		if in := time.Until(unavailable.RetryAt); in <= 0 || in > 10*time.Second {
			t.Errorf("the next attempt is in %v, want within circuitBreakerTimeout", in)
		}
		time.Sleep(time.Until(unavailable.RetryAt))
		if got, err := client.Execute(t.Context(), c, p, fn); got != 1 || err != nil {
			t.Errorf("at RetryAt got %d, %v, want a probe that succeeds", got, err)
		}
		circuits, err := c.Breakers(t.Context())
		if err != nil || len(circuits) != 1 || circuits[0].State != breaker.Closed || circuits[0].ServiceKey != "guarded:charge" || circuits[0].TotalRequests != 3 || circuits[0].TotalFailures != 2 {
			t.Errorf("the breakers are %+v, %v, want guarded:charge closed after 3 requests and 2 failures", circuits, err)
		}
	})
}

func TestExecute_RetriesInFlightAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := local(t), &client.Call{Service: "narrow", Operation: "charge"}
		var inFlight, most, limited atomic.Int64
		retry := func(ctx context.Context) (int, error) {
			if client.AttemptFrom(ctx) == 1 {
				return 0, errBusy
			}
			most.Store(max(most.Load(), inFlight.Add(1)))
			defer inFlight.Add(-1)
			time.Sleep(200 * time.Millisecond)
			return 0, nil
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				_, err := client.Execute(t.Context(), c, p, retry)
				var e *client.RateLimitedError
				if errors.As(err, &e) && e.Limit == "maxConcurrentRetries" && e.Attempts == 1 {
					limited.Add(1)
				} else if err != nil {
					t.Errorf("got %v, want a success or a RateLimitedError", err)
				}
			})
		}
		wg.Wait()
		// The first takes 200 ms; of those that wait for at most 300 ms, two get the slot.
		if most.Load() != 1 || limited.Load() != 2 {
			t.Errorf("%d retries were in flight at once and %d were limited, want 1 and 2", most.Load(), limited.Load())
		}
	})
}

func TestExecute_PanicIsAFailureThatIsNotRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		beneath := errors.New("a bug")
		calls := 0
		_, err := client.Execute(t.Context(), local(t), &client.Call{Service: "guarded", Operation: "charge"}, func(context.Context) (int, error) {
			calls++
			panic(beneath)
		})
		var p *client.PanicError
		if !errors.Is(err, client.ErrNotRetryable) || !errors.As(err, &p) || !errors.Is(err, beneath) || calls != 1 {
			t.Fatalf("got %v after %d calls, want a PanicError that is not retryable after 1", err, calls)
		}
		if full := fmt.Sprintf("%+v", p); !strings.Contains(full, "execute_test.go") || strings.Contains(p.Error(), "\n") {
			t.Errorf("the panic prints as %q, want the stack with %%+v alone", full)
		}
	})
}

func TestExecute_RuleOfThePolicyMayRetryAPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := client.New(t.Context(), client.Config{Policies: policySet(t, "default: {maxAttempts: 3, rules: [{codes: [panic], class: retryable}]}")})
		if err != nil {
			t.Fatal(err)
		}
		calls := 0
		got, err := client.Execute(t.Context(), c, &client.Call{Service: "a", Operation: "b"}, func(context.Context) (int, error) {
			if calls++; calls == 1 {
				panic("once")
			}
			return calls, nil
		})
		if got != 2 || err != nil {
			t.Errorf("got %d, %v, want the result of the second call", got, err)
		}
	})
}

func TestExecute_GoroutineThatExitsInItsAttemptReleasesEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := local(t)
		p := &client.Call{Service: "narrow", Operation: "charge"}
		var wg sync.WaitGroup
		wg.Go(func() {
			_, _ = client.Execute(t.Context(), c, p, func(ctx context.Context) (int, error) {
				if client.AttemptFrom(ctx) == 2 {
					runtime.Goexit()
				}
				return 0, errBusy
			})
			t.Error("Execute returned, want its goroutine to exit")
		})
		wg.Wait()
		fn, _ := failing(1, errBusy)
		if got, err := client.Execute(t.Context(), c, p, fn); got != 2 || err != nil {
			t.Errorf("the next call got %d, %v, want the only slot of retries to be free", got, err)
		}
	})
}

func TestExecute_EndsWithItsContext(t *testing.T) {
	t.Run("before the first attempt", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		fn, calls := failing(0, nil)
		_, err := client.Execute(ctx, local(t), &client.Call{Service: "a", Operation: "b"}, fn)
		var cancelled *client.CancelledError
		if !errors.As(err, &cancelled) || !errors.Is(err, context.Canceled) || calls.Load() != 0 {
			t.Errorf("got %v after %d calls, want a CancelledError and no call", err, calls.Load())
		}
	})
	t.Run("during an attempt", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(50*time.Millisecond, cancel)
			_, err := client.Execute(ctx, local(t), &client.Call{Service: "guarded", Operation: "b"}, func(ctx context.Context) (int, error) {
				<-ctx.Done()
				return 0, ctx.Err()
			})
			if !errors.As(err, new(*client.CancelledError)) || !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want a CancelledError", err)
			}
		})
	})
	t.Run("during a delay", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(50*time.Millisecond, cancel)
			start := time.Now()
			fn, calls := failing(always, errBusy)
			_, err := client.Execute(ctx, local(t), &client.Call{Service: "a", Operation: "b"}, fn)
			if !errors.As(err, new(*client.CancelledError)) || !errors.Is(err, errBusy) || calls.Load() != 1 || time.Since(start) != 50*time.Millisecond {
				t.Errorf("got %v after %d calls and %v, want a CancelledError with the last error after 50ms", err, calls.Load(), time.Since(start))
			}
		})
	})
	t.Run("not waiting for an attempt that its deadline leaves no time for", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
			defer cancel()
			start := time.Now()
			fn, calls := failing(always, errBusy)
			_, err := client.Execute(ctx, local(t), &client.Call{Service: "a", Operation: "b"}, fn)
			var e *client.ExhaustedError
			if !errors.As(err, &e) || e.Reason != events.ReasonDeadline || calls.Load() != 2 || time.Since(start) != 100*time.Millisecond {
				t.Errorf("got %v after %d calls and %v, want to be exhausted by the deadline after 2 calls and 100ms", err, calls.Load(), time.Since(start))
			}
		})
	})
}

func TestExecute_AttemptEndsWithThePolicysTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		got, err := client.Execute(t.Context(), local(t), &client.Call{Service: "a", Operation: "b"}, func(ctx context.Context) (int, error) {
			if client.AttemptFrom(ctx) == 2 {
				return 2, nil
			}
			<-ctx.Done()
			return 0, ctx.Err()
		})
		if took := time.Since(start); got != 2 || err != nil || took != 2100*time.Millisecond {
			t.Errorf("got %d, %v after %v, want the second attempt after attemptTimeout and the delay, 2.1s", got, err, took)
		}
	})
}

func TestExecute_RetryAfterIsAFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		fn, _ := failing(1, fmt.Errorf("charging: %w", client.RetryAfter(errBusy, 42*time.Second)))
		if _, err := client.Execute(t.Context(), local(t), &client.Call{Service: "a", Operation: "b"}, fn); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 42*time.Second {
			t.Errorf("waited %v, want the 42s that the failure asked for", took)
		}
	})
}

func TestExecute_FailuresOfAServiceLengthenAdaptiveDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := local(t), &client.Call{Service: "learning", Operation: "b"}
		delay := func() time.Duration {
			t.Helper()
			start := time.Now()
			fn, _ := failing(1, errBusy)
			if _, err := client.Execute(t.Context(), c, p, fn); err != nil {
				t.Fatal(err)
			}
			return time.Since(start)
		}
		well := func() {
			for range 100 {
				fn, _ := failing(0, nil)
				if _, err := client.Execute(t.Context(), c, p, fn); err != nil {
					t.Fatal(err)
				}
			}
		}
		well()
		first := delay()
		fn, _ := failing(always, errBusy)
		_, _ = client.Execute(t.Context(), c, p, fn)
		_, _ = client.Execute(t.Context(), c, p, fn)
		if ill := delay(); first != 100*time.Millisecond || ill <= first {
			t.Errorf("the delay is %v while the service is well and %v when it fails, want 100ms and more than that", first, ill)
		}
		// A call may do without.
		unadapted := &client.Call{Service: "learning", Operation: "b", Overrides: map[string]string{"enableAdaptiveBackoff": "false"}}
		start := time.Now()
		fn, _ = failing(1, errBusy)
		if _, err := client.Execute(t.Context(), c, unadapted, fn); err != nil || time.Since(start) != first {
			t.Errorf("a call without adaptive delays got %v after %v, want the delay of %v", err, time.Since(start), first)
		}
		metrics := c.LocalHealth()
		if len(metrics) != 1 || metrics[0].ServiceType != "learning" || metrics[0].Samples != 100 || *metrics[0].SuccessRate >= 1 {
			t.Errorf("the health is %+v, want that of learning over the last 100 attempts", metrics)
		}
	})
}

func TestCall_OverridesAreBoundedAndChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := local(t)
		fn, calls := failing(always, errBusy)
		p := &client.Call{Service: "a", Operation: "b", Overrides: map[string]string{"maxAttempts": "2", "baseDelay": "5"}}
		start := time.Now()
		if _, err := client.Execute(t.Context(), c, p, fn); !errors.Is(err, client.ErrExhausted) || calls.Load() != 2 || time.Since(start) != 5*time.Millisecond {
			t.Errorf("with overrides got %v after %d calls and %v, want to be exhausted after 2 and 5ms", err, calls.Load(), time.Since(start))
		}
		fn, calls = failing(always, errBusy)
		if _, err := client.Execute(t.Context(), c, &client.Call{Service: "a", Operation: "b", Overrides: map[string]string{"maxattempts": "1000"}}, fn); !errors.Is(err, client.ErrExhausted) || calls.Load() != 4 {
			t.Errorf("with more attempts than the policy allows got %v after %d calls, want to be exhausted after the policy's 4", err, calls.Load())
		}
		fn, calls = failing(0, nil)
		_, err := client.Execute(t.Context(), c, &client.Call{Service: "a.b", Operation: "", Priority: "urgent", Overrides: map[string]string{"target": "x", "baseDelay": "soon"}}, fn)
		for _, want := range []string{`"a.b" has the character '.'`, "operation is empty", `priority "urgent"`, `"target" cannot be overridden`, `"soon"`} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("a faulty call gives %v, want it to say %q", err, want)
			}
		}
		if calls.Load() != 0 {
			t.Error("the function was called of a faulty call")
		}
	})
}

func TestCall_MayBeUsedWithSeveralClients(t *testing.T) {
	p := &client.Call{Service: "guarded", Operation: "charge"}
	one, two := local(t), local(t)
	fn, _ := failing(0, nil)
	for range 3 {
		for _, c := range []*client.Client{one, two} {
			if _, err := client.Execute(t.Context(), c, p, fn); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []*client.Client{one, two} {
		if circuits, err := c.Breakers(t.Context()); err != nil || len(circuits) != 1 || circuits[0].TotalRequests != 3 {
			t.Errorf("the breakers of a client are %+v, %v, want 3 requests", circuits, err)
		}
	}
}

func TestExecute_OptionsAreChecked(t *testing.T) {
	c, p := local(t), &client.Call{Service: "a", Operation: "b"}
	fn, calls := failing(0, nil)
	for name, option := range map[string]client.ExecuteOption{
		"no attempt": client.WithMaxAttempts(0), "an empty id": client.WithEventID(""), "a hand-over without NATS": client.WithHandOver(client.Submission{}),
	} {
		if _, err := client.Execute(t.Context(), c, p, fn, option); err == nil || calls.Load() != 0 {
			t.Errorf("%s: got %v after %d calls, want an error and no call", name, err, calls.Load())
		}
	}
	if _, err := client.Execute(t.Context(), c, p, fn, client.WithHandOver(client.Submission{})); !errors.Is(err, client.ErrNotConnected) {
		t.Errorf("a handover without NATS gives %v, want ErrNotConnected", err)
	}
}
