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

// TestGates_SlowTargetIsSlowedAndHoldsNothing lets operations come to a target that takes ten
// times as long as before.
func TestGates_SlowTargetIsSlowedAndHoldsNothing(t *testing.T) {
	for name, tc := range map[string]struct {
		fails bool // some attempts fail besides
		holds bool
	}{
		"it only is slow":           {false, false},
		"it fails now and then too": {true, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := NewGates(breaker.NewGroup(breaker.Config{}), GatesConfig{})
				pol := policy.Builtin().Resolve(policy.Query{Service: "pay", Operation: "charge"})
				attempt := func(took time.Duration, r gate.Result) bool {
					pass, shut, err := g.Enter(t.Context(), &pol, &events.Operation{Service: "pay", Operation: "charge"}, "target", time.Now())
					if err != nil {
						t.Error(err)
						return false
					}
					if shut != nil {
						return false
					}
					time.Sleep(took) //nolint:forbidigo // virtual time
					pass.Done(r, took, time.Now())
					return true
				}
				var tasks sync.WaitGroup
				var held, failed atomic.Int64
				begin := func(n int, took time.Duration) {
					for i := range n {
						r := gate.Success
						if tc.fails && i%50 == 0 {
							r = gate.Failure
						}
						tasks.Go(func() {
							switch {
							case !attempt(took, r):
								held.Add(1)
							case r == gate.Failure:
								failed.Add(1)
							}
						})
						time.Sleep(2 * time.Millisecond) //nolint:forbidigo // virtual time
					}
				}
				begin(1000, 20*time.Millisecond)
				begin(1000, 20*time.Millisecond)
				if held.Load() > 0 {
					t.Fatalf("while the target was quick %d operations were held, want none", held.Load())
				}
				begin(1500, 200*time.Millisecond)
				if on := g.Standings(time.Now())[0].Governed; !on {
					t.Fatal("at a slow target the governor is off, want it on")
				}
				begin(700, 200*time.Millisecond)
				tasks.Wait()
				if got := held.Load() > 0; got != tc.holds {
					t.Errorf("%d operations were held, %d failed, want some held: %t", held.Load(), failed.Load(), tc.holds)
				}
			})
		})
	}
}
