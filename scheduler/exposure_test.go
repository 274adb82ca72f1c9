package scheduler

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/gate"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// exposedGates are the gates of an instance and a target that answers each attempt alike.
type exposedGates struct {
	*Gates
	pol            policy.Policy
	tasks          sync.WaitGroup
	attempts, held atomic.Int64
	longest        atomic.Int64 // that one waited at the gate
}

func newExposedGates(config GatesConfig) *exposedGates {
	x := &exposedGates{}
	x.Gates = NewGates(breaker.NewGroup(breaker.Config{Changed: func(c breaker.Change) { x.Changed(c) }}), config)
	x.pol = policy.Builtin().Resolve(policy.Query{Service: "pay", Operation: "charge"})
	return x
}

// due lets n operations come due at once.
func (x *exposedGates) due(t *testing.T, n int, r gate.Result, took time.Duration) {
	for range n {
		x.tasks.Go(func() {
			came := time.Now()
			pass, shut, err := x.Enter(t.Context(), &x.pol, &events.Operation{Service: "pay", Operation: "charge"}, "target", came)
			switch {
			case err != nil:
				t.Error(err)
				return
			case shut != nil:
				x.held.Add(1)
				return
			}
			for waited := int64(time.Since(came)); ; {
				longest := x.longest.Load()
				if waited <= longest || x.longest.CompareAndSwap(longest, waited) {
					break
				}
			}
			x.attempts.Add(1)
			time.Sleep(took) //nolint:forbidigo // virtual time
			pass.Done(r, took, time.Now())
		})
	}
}

func TestGates_DeadTargetGetsAFewOfAThousandThatAreDueAtOnce(t *testing.T) {
	for name, instances := range map[string]int{"one instance": 1, "three instances": 3} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newExposedGates(GatesConfig{})
				x.SetInstances(instances)
				x.due(t, 1000, gate.Failure, 5*time.Millisecond)
				x.tasks.Wait()
				if n, most := int(x.attempts.Load()), 48/instances+x.pol.CircuitBreakerThreshold; n > most {
					t.Errorf("the dead target got %d attempts, want %d at most", n, most)
				}
				if x.held.Load()+x.attempts.Load() != 1000 {
					t.Errorf("%d were held and %d attempted, want 1000 in all", x.held.Load(), x.attempts.Load())
				}
			})
		})
	}
}

func TestGates_WhatWaitsUntilATargetAnswersWaitsInMemory(t *testing.T) {
	for _, took := range []time.Duration{time.Millisecond, time.Second} {
		t.Run(took.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newExposedGates(GatesConfig{Capacity: func() int { return 8192 }})
				x.due(t, 1000, gate.Success, took)
				x.tasks.Wait()
				if x.held.Load() > 0 || x.attempts.Load() != 1000 {
					t.Errorf("%d of 1000 were attempted and %d held, want all attempted", x.attempts.Load(), x.held.Load())
				}
				if waited := time.Duration(x.longest.Load()); waited > took {
					t.Errorf("one waited %v, want no longer than the first answer takes, %v", waited, took)
				}
			})
		})
	}
}

func TestGates_FailureAmongSuccessesHoldsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newExposedGates(GatesConfig{Capacity: func() int { return 8192 }})
		x.due(t, 10, gate.Success, time.Second)
		x.tasks.Wait()
		x.due(t, 1, gate.Failure, time.Millisecond)
		x.tasks.Wait()
		x.due(t, 500, gate.Success, 100*time.Millisecond)
		synctest.Wait()
		if n, want := x.attempts.Load()-11, int64(x.pol.CircuitBreakerThreshold-1); n != want {
			t.Errorf("after a failure %d attempts are in flight, want %d", n, want)
		}
		x.tasks.Wait()
		if waited := time.Duration(x.longest.Load()); x.held.Load() > 0 || waited > 100*time.Millisecond {
			t.Errorf("%d were held and one waited %v, want none held and none waiting longer than the answer takes", x.held.Load(), waited)
		}
	})
}

func TestGates_WhatWaitsLeavesHalfOfASmallInstanceToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newExposedGates(GatesConfig{Capacity: func() int { return 400 }})
		x.due(t, 399, gate.Success, time.Minute)
		synctest.Wait()
		if inFlight, held := x.attempts.Load(), x.held.Load(); inFlight != 48 || held != 399-48-200 {
			t.Errorf("%d are in flight and %d held, want 48, and 200 that wait in memory", inFlight, held)
		}
		x.tasks.Wait()
	})
}
