package storetest

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/internal/testkit"
)

// sharesABreaker has three instances open and close one breaker together.
func sharesABreaker(t *testing.T, stores []breaker.Store) {
	s := Settings()
	s.Timeout = 300 * time.Millisecond
	all := Fleet(t, stores, s)
	// One failure at each instance makes three in a row.
	for _, i := range all {
		i.Fail(t, 1)
	}
	Eventually(t, all, breaker.Open)
	testkit.Eventually(t, 20*time.Second, "the timeout is over", func() bool { n, _ := all[1].Ready(time.Now()); return n > 0 })
	var probes []breaker.Permit
	for _, i := range []*Instance{all[1], all[2]} {
		var p breaker.Permit
		testkit.Eventually(t, 20*time.Second, "a probe is let through", func() (ok bool) {
			var err error
			p, err = i.Allow(t.Context(), time.Now())
			return err == nil
		})
		if !p.Probe() {
			t.Fatal("the permit of a half-open breaker is no probe")
		}
		probes = append(probes, p)
	}
	Eventually(t, all, breaker.HalfOpen)
	if _, err := all[0].Allow(t.Context(), time.Now()); !errors.Is(err, breaker.ErrProbing) {
		t.Errorf("a third probe has error %v, want %v", err, breaker.ErrProbing)
	}
	for _, p := range probes {
		p.Done(breaker.Success, time.Millisecond, time.Now())
	}
	Eventually(t, all, breaker.Closed)
	checkChanges(t, all)
}

// checkChanges checks that exactly one instance reports each change as its own, and that all saw
// it.
func checkChanges(t *testing.T, all []*Instance) {
	t.Helper()
	// An instance may see its own change before it learns that the change is its own.
	testkit.Eventually(t, 20*time.Second, "each of the three changes being reported as an instance's own", func() bool {
		own := 0
		for _, i := range all {
			own += len(i.Own())
		}
		return own >= 3
	})
	counts := map[string]int{}
	for _, i := range all {
		for _, c := range i.Own() {
			counts[c]++
		}
	}
	for _, change := range []string{"CLOSED>OPEN failures", "OPEN>HALF_OPEN timeout", "HALF_OPEN>CLOSED probes_succeeded"} {
		if counts[change] != 1 {
			t.Errorf("%s is reported %d times as an instance's own, want once", change, counts[change])
		}
	}
	if len(counts) != 3 {
		t.Errorf("the instances' own changes are %v, want three", counts)
	}
	seen := 0
	for _, i := range all {
		seen += i.Seen(breaker.Open)
	}
	if seen != len(all)-1 {
		t.Errorf("%d instances saw another open the breaker, want %d", seen, len(all)-1)
	}
}

// boundsProbes checks, through many rounds of opening and closing, that all instances together
// never exceed the bound on probes in flight.
func boundsProbes(t *testing.T, stores []breaker.Store) {
	const most, enough = 2, 200
	s := breaker.Settings{Threshold: 2, Timeout: 5 * time.Millisecond, HalfOpenMaxRequests: most, HalfOpenSuccesses: 3, ProbeLease: time.Minute}
	all := Fleet(t, stores, s)
	var probes probeCount
	var workers sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for id := range 8 {
		workers.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(id)))
			for ctx.Err() == nil && probes.made.Load() < enough {
				attempt(ctx, all[id%len(all)], &probes, r)
			}
		})
	}
	workers.Wait()
	if n := probes.made.Load(); n < enough {
		t.Errorf("only %d probes were let through in 20 s, want %d", n, enough)
	}
	if n := probes.worst.Load(); n > most {
		t.Errorf("%d probes were in flight at once, want at most %d", n, most)
	}
}

// probeCount counts probes, as their target sees them.
type probeCount struct{ now, worst, made atomic.Int64 }

func (c *probeCount) begin() {
	c.made.Add(1)
	n := c.now.Add(1)
	for w := c.worst.Load(); n > w && !c.worst.CompareAndSwap(w, n); w = c.worst.Load() {
	}
}

// attempt makes one attempt, if the instance allows it. A third of them fail.
func attempt(ctx context.Context, i *Instance, probes *probeCount, r *rand.Rand) {
	p, err := i.Allow(ctx, time.Now())
	if err != nil {
		backoff.Sleep(ctx, time.Millisecond)
		return
	}
	if p.Probe() {
		probes.begin()
	}
	backoff.Sleep(ctx, time.Duration(r.IntN(2000))*time.Microsecond)
	if p.Probe() {
		probes.now.Add(-1)
	}
	result := breaker.Success
	if r.IntN(3) == 0 {
		result = breaker.Failure
	}
	p.Done(result, time.Millisecond, time.Now())
}

// givesBackProbesOfTheDead has an instance die with the only probe.
func givesBackProbesOfTheDead(t *testing.T, stores []breaker.Store) {
	s := breaker.Settings{Threshold: 1, Timeout: time.Millisecond, HalfOpenMaxRequests: 1, HalfOpenSuccesses: 1, ProbeLease: 300 * time.Millisecond}
	all := Fleet(t, stores, s)
	all[0].Fail(t, 1)
	testkit.Eventually(t, 20*time.Second, "the first instance has the probe", func() bool {
		p, err := all[0].Allow(t.Context(), time.Now())
		return err == nil && p.Probe()
	})
	all[0].Stop()
	Eventually(t, all[1:], breaker.HalfOpen)
	if n, next := all[1].Ready(time.Now()); n != 0 || next.IsZero() {
		t.Errorf("while the dead instance has the probe %d may go, next at %v, want 0 and a time", n, next)
	}
	testkit.Eventually(t, 20*time.Second, "the second instance gets the probe", func() bool {
		p, err := all[1].Allow(t.Context(), time.Now())
		if err != nil {
			return false
		}
		p.Done(breaker.Success, time.Millisecond, time.Now())
		return true
	})
	Eventually(t, all[1:], breaker.Closed)
}

// tellsWhoJoinsWhatIsOpen has an instance join while a breaker is held.
func tellsWhoJoinsWhatIsOpen(t *testing.T, stores []breaker.Store) {
	first := Launch(t, "first", stores[0], Settings())
	if _, err := first.Hold(t.Context(), Key, breaker.Operator{Note: "maintenance"}); err != nil {
		t.Fatal(err)
	}
	second := Launch(t, "second", stores[1], Settings())
	if _, err := second.Allow(t.Context(), time.Now()); !errors.Is(err, breaker.ErrOpen) {
		t.Errorf("the error is %v, want %v", err, breaker.ErrOpen)
	}
	if _, err := second.Reset(t.Context(), Key, breaker.Operator{}); err != nil {
		t.Fatal(err)
	}
	Eventually(t, []*Instance{first, second}, breaker.Closed)
}

// keepsTotals checks that the store has everything counted by the instances, in batches or not,
// once they have stopped.
func keepsTotals(t *testing.T, stores []breaker.Store) {
	all := Fleet(t, stores, breaker.Settings{Threshold: 1_000_000})
	var workers sync.WaitGroup
	for _, i := range all {
		workers.Go(func() {
			for n := range 1000 {
				p, err := i.Allow(t.Context(), time.Now())
				if err != nil {
					t.Errorf("no permit: %v", err)
					return
				}
				p.Done([]breaker.Result{breaker.Success, breaker.Success, breaker.Failure, breaker.Ignored}[n%4], time.Millisecond, time.Now())
			}
		})
	}
	workers.Wait()
	for _, i := range all {
		i.Stop()
	}
	circuits, err := stores[0].Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range circuits {
		if c.ServiceKey == Key && (c.TotalRequests != 3000 || c.TotalFailures != 750) {
			t.Errorf("totals are %d/%d, want 750/3000", c.TotalFailures, c.TotalRequests)
		}
	}
}
