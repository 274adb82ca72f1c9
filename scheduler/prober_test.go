package scheduler

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// forgetful is a target that fails the first attempt at every operation that it sees, and all
// attempts at one.
type forgetful struct {
	poisoned string

	mu   sync.Mutex
	made []probe
}

// probe is an attempt and when it was made.
type probe struct {
	id     string
	number int
	at     time.Time
}

func (f *forgetful) Deliver(_ context.Context, op *events.Operation, _ Message, a Attempt) (Reply, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.made = append(f.made, probe{op.ID, a.Number, time.Now()})
	if a.Number == 2 || op.ID == f.poisoned {
		return Reply{Failed: true, Failure: policy.Failure{Code: "500", Message: "not yet"}}, nil
	}
	return Reply{}, nil
}

const tenSeconds = "default: {maxAttempts: 30, baseDelay: 1s, backoffStrategy: fixed, jitterType: none, enableAdaptiveBackoff: false, circuitBreakerThreshold: 1, circuitBreakerTimeout: 10s}"

// failed returns an operation whose attempts up to number have failed.
func failed(n, number int) *events.Operation {
	op := waitingOp(n)
	op.Attempt = 0
	for op.Attempt < number {
		op.Attempt++
		op.Record(events.Attempt{Number: op.Attempt})
	}
	return op
}

func TestAttempt_OperationThatWasTriedBeforeStaysInHandToBeTheNextProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, tg := &holding{}, &forgetful{}
		p := h.at(tg, tenSeconds)
		attempt := func(op *events.Operation) {
			t.Helper()
			if err := p.Attempt(t.Context(), op, Message{Version: 5}); err != nil {
				t.Fatal(err)
			}
		}
		attempt(failed(1, 1)) // opens the breaker and is parked
		opened := time.Now()
		var hands sync.WaitGroup
		hands.Go(func() { attempt(failed(1, 2)) }) // is due
		synctest.Wait()
		if r := p.Gates.Standings(time.Now()); len(r) != 1 || r[0].Waiting != 1 || r[0].HeldUp() != 1 {
			t.Errorf("the gates are %+v, want one with an operation that waits", r)
		}
		attempt(failed(2, 1)) // was not tried yet
		attempt(failed(3, 2)) // somebody waits already
		if len(h.until) != 2 || len(tg.made) != 1 {
			t.Errorf("%d operations are held and %d attempts were made, want 2 and 1", len(h.until), len(tg.made))
		}
		time.Sleep(9990 * time.Millisecond)
		pol := p.Policies().Resolve(policy.Query{})
		if q := p.Gates.Quota(&pol, "s", "o", events.Normal, opened.Add(10*time.Second)); !q.Shut {
			t.Errorf("the lanes may let out %+v, want nothing: the next probe is in hand", q)
		}
		hands.Wait()
		if len(tg.made) != 2 || tg.made[1].number != 3 || tg.made[1].at.Sub(opened) != 10*time.Second {
			t.Errorf("the attempts are %+v, want the third of operation 1 ten seconds after %v", tg.made, opened)
		}
		attempt(failed(4, 2)) // the breaker has closed
		if len(tg.made) != 3 || len(h.until) != 2 {
			t.Errorf("after the probe %d attempts were made and %d operations are held, want 3 and 2", len(tg.made), len(h.until))
		}
	})
}

func TestAttempt_OneThatAlwaysFailsDoesNotKeepTheBreakerOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &holding{}
		tg := &forgetful{poisoned: failed(1, 0).ID}
		p := h.at(tg, tenSeconds)
		attempt := func(op *events.Operation) {
			t.Helper()
			if err := p.Attempt(t.Context(), op, Message{Version: 5}); err != nil {
				t.Fatal(err)
			}
		}
		attempt(failed(1, 1))
		attempt(failed(1, 2)) // waits, and fails as the probe
		attempt(failed(1, 3))
		if len(tg.made) != 2 || len(h.until) != 1 {
			t.Fatalf("%d attempts were made and %d operations are held, want 2 and 1: the next probe is another's", len(tg.made), len(h.until))
		}
		time.Sleep(10 * time.Second)
		attempt(failed(2, 2)) // comes from the lane and closes the breaker
		attempt(failed(3, 2))
		if len(tg.made) != 4 {
			t.Errorf("%d attempts were made, want 4: the breaker has closed", len(tg.made))
		}
	})
}
