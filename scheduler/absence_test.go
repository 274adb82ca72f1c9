package scheduler

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/gate"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// away is a target on which nobody listens before a time.
type away struct {
	until time.Time

	mu    sync.Mutex
	asked []time.Time
	made  []int // the numbers of the attempts that reached it
}

func (a *away) Deliver(_ context.Context, _ *events.Operation, _ Message, at Attempt) (Reply, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	a.asked = append(a.asked, now)
	if now.Before(a.until) {
		return Reply{Failed: true, Absent: true, Failure: policy.Failure{Code: "no_responders"}}, nil
	}
	a.made = append(a.made, at.Number)
	return Reply{}, nil
}

// holding is a store that keeps what is held, with the time until which.
type holding struct {
	answering
	mu    sync.Mutex
	until []time.Time
}

func (h *holding) Hold(_ context.Context, _ *events.Operation, _ Message, until time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.until = append(h.until, until)
	return nil
}

func (h *holding) Ended(ctx context.Context, op *events.Operation, m Message, o events.Outcome) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if o.Detail != "" {
		o.Outcome += ": " + o.Detail
	}
	return h.answering.Ended(ctx, op, m, o)
}

func (h *holding) at(target Target, yaml string) *Pipeline {
	set, err := policy.Parse("p.yaml", []byte(yaml))
	if err != nil {
		panic(err)
	}
	p := h.pipeline(nil, target)
	p.Store, p.Policies = h, func() *policy.Set { return set }
	p.Gates = NewGates(breaker.NewGroup(breaker.Config{Instance: "i"}), GatesConfig{MostProbers: 8})
	return p
}

func waitingOp(n int) *events.Operation {
	op := waiting()
	op.ID = fmt.Sprintf("%032d", n)
	return op
}

func TestAttempt_OnAnAbsentTargetIsNoneAndWaitsInHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, tg := &holding{}, &away{until: time.Now().Add(30 * time.Second)}
		p := h.at(tg, "default: {maxAttempts: 2, enableCircuitBreaker: true, circuitBreakerThreshold: 1, maxElapsedTime: 24h}")
		began := 0
		p.Began = func(_ context.Context, _ *events.Operation, late time.Duration) {
			if began++; late > 0 {
				t.Errorf("the attempt is %v late, want 0: its target was away", late)
			}
		}
		if err := p.Attempt(t.Context(), waiting(), Message{Version: 5}); err != nil {
			t.Fatal(err)
		}
		if back := time.Since(tg.until); back > time.Second {
			t.Errorf("the operation was delivered %v after its target was back, want 1s at most", back)
		}
		if n := len(tg.asked); n > 36 {
			t.Errorf("the absent target was asked for %d times in 30 s, want about once a second", n)
		}
		if !slices.Equal(tg.made, []int{2}) || !slices.Equal(h.ended, []string{events.RetrySuccess}) || began != 1 {
			t.Errorf("attempts %v, %d began, outcomes %v; want attempt 2 alone and its success", tg.made, began, h.ended)
		}
		if len(h.until)+len(h.placed) != 0 {
			t.Errorf("%d states were stored while it waited, want none", len(h.until)+len(h.placed))
		}
	})
}

func TestAttempt_OthersOfAnAbsentTargetAreHeldUntilTheirTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, tg := &holding{}, &away{until: time.Now().Add(30 * time.Second)}
		p := h.at(tg, "default: {maxElapsedTime: 24h}")
		begin := time.Now()
		var prober sync.WaitGroup
		prober.Go(func() { _ = p.Attempt(t.Context(), waitingOp(0), Message{Version: 5}) })
		synctest.Wait()
		for n := range 3 {
			if err := p.Attempt(t.Context(), waitingOp(n+1), Message{Version: 5}); err != nil {
				t.Fatal(err)
			}
		}
		if want := slices.Repeat([]time.Time{begin.Add(24 * time.Hour)}, 3); !slices.Equal(h.until, want) || len(tg.asked) != 1 {
			t.Errorf("held until %v after %d requests; want three until maxElapsedTime is over, after one request", h.until, len(tg.asked))
		}
		s := p.Gates.Standings(time.Now())[0]
		if s.Cause != gate.CauseAbsent || !s.Shut || s.Absent == nil || s.Absent.Subject != "s.o" || time.Until(s.Next) > time.Second {
			t.Errorf("the key stands as %+v, want it shut because s.o is absent, and asked again within a second", s)
		}
		prober.Wait()
		if q := p.Gates.Quota(policyOf(p), "s", "o", events.Normal, time.Now()); q.Shut {
			t.Errorf("the lanes stay shut by %s when the target is back", q.Cause)
		}
	})
}

func policyOf(p *Pipeline) *policy.Policy {
	pol := p.Policies().Resolve(policy.Query{Service: "s", Operation: "o"})
	return &pol
}

func TestAttempt_ThatWaitsInVainEndsWithItsElapsedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, tg := &holding{}, &away{until: time.Now().Add(time.Hour)}
		p := h.at(tg, "default: {maxElapsedTime: 10s}")
		begin := time.Now()
		if err := p.Attempt(t.Context(), waiting(), Message{Version: 5}); err != nil {
			t.Fatal(err)
		}
		want := []string{events.RetryFailed + ": it was still held (absent) 10s after the first failure"}
		if took := time.Since(begin); !slices.Equal(h.ended, want) || took > 11*time.Second || h.buried != 1 {
			t.Errorf("it ended as %q with %d dead letters after %v; want %q with one after 10s", h.ended, h.buried, took, want)
		}
	})
}

// TestAttempt_ElapsedTimeCountsAnewAfterAPauseThatOutlastedIt pauses an operation and resumes it while
// its target is away.
func TestAttempt_ElapsedTimeCountsAnewAfterAPauseThatOutlastedIt(t *testing.T) {
	for _, c := range []struct {
		name         string
		paused, away time.Duration // how long, and for how long after the pause
		want         string
	}{
		{"and its target is back in time", time.Hour, 5 * time.Second, events.RetrySuccess},
		{"and its target stays away", time.Hour, time.Hour, events.RetryFailed + ": it was still held (absent) 10s after its pause"},
		{"not after a shorter one", 4 * time.Second, time.Hour, events.RetryFailed + ": it was still held (absent) 10s after the first failure"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, tg := &holding{}, &away{until: time.Now().Add(c.paused + c.away)}
				p := h.at(tg, "default: {maxElapsedTime: 10s}")
				p.Gates.SetPauses(pauses(t, map[string]time.Time{"s:o": {}}))
				op := waiting()
				for range 2 {
					time.Sleep(c.paused / 2)
					if err := p.Attempt(t.Context(), op, Message{Version: 5}); err != nil {
						t.Fatal(err)
					}
				}
				if !slices.Equal(h.until, make([]time.Time, 2)) {
					t.Errorf("while it was paused it was held until %v, want twice without end", h.until)
				}
				p.Gates.SetPauses(pauses(t, nil))
				if err := p.Attempt(t.Context(), op, Message{Version: 5}); err != nil {
					t.Fatal(err)
				}
				if want := []string{c.want}; !slices.Equal(h.ended, want) {
					t.Errorf("it ended as %q, want %q", h.ended, want)
				}
			})
		})
	}
}

func TestAttempt_OnAnAbsentTargetFailsIfThePolicySaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, tg := &holding{}, &away{until: time.Now().Add(time.Hour)}
		if err := h.at(tg, "default: {noResponders: fail, maxAttempts: 2}").Attempt(t.Context(), waiting(), Message{Version: 5}); err != nil {
			t.Fatal(err)
		}
		if len(h.states) != 1 || h.states[0].Work == nil || h.states[0].Work.Result.Code != "no_responders" {
			t.Errorf("stored %+v, want the failed attempt with code no_responders", h.states)
		}
	})
}

func TestAttempt_ThatWaitsForItsTargetLeavesWhenTheInstanceStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, tg := &holding{}, &away{until: time.Now().Add(time.Hour)}
		p := h.at(tg, "default: {maxElapsedTime: 24h}")
		draining := make(chan struct{})
		p.Draining = draining
		begin := time.Now()
		time.AfterFunc(3*time.Second, func() { close(draining) })
		if err := p.Attempt(t.Context(), waiting(), Message{Version: 5}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took != 3*time.Second || len(h.placed) != 1 {
			t.Errorf("it left after %v with %d states stored, want 3s and one", took, len(h.placed))
		}
		if n := p.Gates.probers.Load(); n != 0 {
			t.Errorf("%d probers are left, want 0", n)
		}
	})
}

func TestAttempt_AtAMisspeltTargetDoesNotShutItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, tg := &holding{}, &away{until: time.Now().Add(10 * time.Second)}
		p := h.at(tg, "default: {maxElapsedTime: 24h}")
		misspelt := waitingOp(1)
		misspelt.Target = "s.typo"
		var prober sync.WaitGroup
		defer prober.Wait() // once the lock is free
		prober.Go(func() { _ = p.Attempt(t.Context(), misspelt, Message{Version: 5}) })
		synctest.Wait()
		tg.mu.Lock()
		tg.until = time.Now()
		tg.mu.Unlock()
		if err := p.Attempt(t.Context(), waitingOp(2), Message{Version: 5}); err != nil {
			t.Fatal(err)
		}
		tg.mu.Lock()
		defer tg.mu.Unlock()
		if len(tg.made) != 1 || len(h.until) != 0 {
			t.Errorf("%d attempts and %d operations held, want the one for another target attempted", len(tg.made), len(h.until))
		}
	})
}
