package client_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rebound-mq/rebound/client"
)

// within calls look with the context of one attempt under parent; the attempt's timeout is 2 s.
func within(parent context.Context, t *testing.T, look func(ctx context.Context)) {
	t.Helper()
	_, err := client.Execute(parent, local(t), &client.Call{Service: "a", Operation: "b"}, func(ctx context.Context) (struct{}, error) {
		look(ctx)
		return struct{}{}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

type valueKey struct{}

func TestAttempt_ContextEndsWithItsTime(t *testing.T) {
	for name, test := range map[string]func(t *testing.T){
		"ends by itself after attemptTimeout, seen by Err alone": func(t *testing.T) {
			within(t.Context(), t, func(ctx context.Context) {
				before := ctx.Err()
				time.Sleep(2 * time.Second)
				if before != nil || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
					t.Errorf("Err is %v before and %v after the timeout, want nil and then DeadlineExceeded", before, ctx.Err())
				}
				select {
				case <-ctx.Done():
				default:
					t.Error("Err reports that the context has ended, but Done does not")
				}
			})
		},
		"has the earlier of both deadlines": func(t *testing.T) {
			for outer, want := range map[time.Duration]time.Duration{time.Second: time.Second, time.Hour: 2 * time.Second} {
				start := time.Now()
				parent, cancel := context.WithTimeout(t.Context(), outer)
				within(parent, t, func(ctx context.Context) {
					if at, ok := ctx.Deadline(); !ok || at.Sub(start) != want {
						t.Errorf("within %v the deadline is in %v, want %v", outer, at.Sub(start), want)
					}
				})
				cancel()
			}
		},
		"ends with its parent": func(t *testing.T) {
			parent, cancel := context.WithCancel(t.Context())
			within(parent, t, func(ctx context.Context) {
				done := ctx.Done()
				cancel()
				<-done
				if !errors.Is(ctx.Err(), context.Canceled) {
					t.Errorf("Err is %v, want Canceled", ctx.Err())
				}
			})
		},
		"has the values of its parent, looked at or not": func(t *testing.T) {
			within(context.WithValue(t.Context(), valueKey{}, 7), t, func(ctx context.Context) {
				before := ctx.Value(valueKey{})
				_ = ctx.Done()
				if before != 7 || ctx.Value(valueKey{}) != 7 || client.AttemptFrom(ctx) != 1 {
					t.Errorf("the value is %v before and %v after Done, the attempt %d, want 7, 7 and 1", before, ctx.Value(valueKey{}), client.AttemptFrom(ctx))
				}
			})
		},
		"carries contexts beneath it": func(t *testing.T) {
			within(t.Context(), t, func(ctx context.Context) {
				beneath, cancel := context.WithTimeout(ctx, time.Hour)
				defer cancel()
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if !errors.Is(beneath.Err(), context.DeadlineExceeded) {
					t.Errorf("a derived context has the error %v, want DeadlineExceeded", beneath.Err())
				}
			})
		},
		"is over when the attempt is": func(t *testing.T) {
			for name, look := range map[string]func(context.Context){"never looked at": func(context.Context) {}, "looked at": func(ctx context.Context) { ctx.Done() }} {
				var kept context.Context
				within(context.WithValue(t.Context(), valueKey{}, 7), t, func(ctx context.Context) { kept = ctx; look(ctx) })
				<-kept.Done()
				if !errors.Is(kept.Err(), context.Canceled) || kept.Value(valueKey{}) != 7 {
					t.Errorf("%s: afterwards Err is %v and the value %v, want Canceled and 7", name, kept.Err(), kept.Value(valueKey{}))
				}
			}
		},
		"is made once, however many look": func(t *testing.T) {
			within(t.Context(), t, func(ctx context.Context) {
				channels := make([]<-chan struct{}, 8)
				var wg sync.WaitGroup
				for i := range channels {
					wg.Go(func() { channels[i] = ctx.Done() })
				}
				wg.Wait()
				for _, c := range channels {
					if c != channels[0] {
						t.Error("two calls of Done returned different channels")
					}
				}
			})
		},
	} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
	}
}

func TestAttemptFrom_OnlyAttemptsHaveANumber(t *testing.T) {
	if n := client.AttemptFrom(t.Context()); n != 0 {
		t.Errorf("a context outside an attempt has number %d, want 0", n)
	}
}
