package breaker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/internal/testkit"
)

const key = "billing:charge"

// instance is a group that runs.
type instance struct {
	*Group
	*Breaker
	stop func() // may be called again

	mu      sync.Mutex // guards what follows
	changes []Change
	status  []Status
}

// run starts an instance on a store and stops it when the test ends. It returns
// once the instance has joined.
func run(t testing.TB, name string, store Store, s Settings) *instance {
	t.Helper()
	i := &instance{}
	i.Group = NewGroup(Config{
		Instance: name, Store: store,
		Changed: func(c Change) {
			i.mu.Lock()
			defer i.mu.Unlock()
			i.changes = append(i.changes, c)
		},
		StatusChanged: func(s Status) {
			t.Logf("%s: shared %v, error %v", name, s.Shared, s.Err)
			i.mu.Lock()
			defer i.mu.Unlock()
			i.status = append(i.status, s)
		},
	})
	i.Breaker = i.Group.Breaker(key, s)
	if err := i.Join(t.Context()); err != nil {
		t.Fatalf("%s: joining: %v", name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		i.Run(ctx)
	}()
	i.stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(i.stop)
	return i
}

// fleet runs an instance on each store, and waits until all follow each other.
func fleet(t testing.TB, stores []Store, s Settings) []*instance {
	t.Helper()
	var all []*instance
	for n, store := range stores {
		all = append(all, run(t, fmt.Sprintf("instance%d", n), store, s))
	}
	for n, i := range all {
		// A trip of another key, seen by all, shows that all are watching.
		other := fmt.Sprintf("ready:%d", n)
		testkit.Eventually(t, 20*time.Second, "all instances follow "+other, func() bool {
			if _, err := i.Trip(t.Context(), other, 0, ""); err != nil {
				return false
			}
			for _, j := range all {
				if b := j.lookup(other); b == nil || b.State() != Open {
					return false
				}
			}
			return true
		})
	}
	return all
}

// fail tells of n failures.
func (i *instance) fail(t testing.TB, n int) {
	t.Helper()
	for range n {
		p, err := i.Allow(t.Context(), time.Now())
		if err != nil {
			t.Fatalf("no permit to fail with: %v", err)
		}
		p.Done(Failure, time.Millisecond, time.Now())
	}
}

func (i *instance) own() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	var own []string
	for _, c := range i.changes {
		if c.Own && c.Key == key {
			own = append(own, fmt.Sprintf("%v>%v %s", c.From, c.To, c.Cause))
		}
	}
	return own
}

func (i *instance) seen(to State) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	n := 0
	for _, c := range i.changes {
		if !c.Own && c.Key == key && c.To == to {
			n++
		}
	}
	return n
}

func eventually(t testing.TB, all []*instance, within time.Duration, s State) {
	t.Helper()
	for n, i := range all {
		testkit.Eventually(t, within, fmt.Sprintf("instance %d is %v", n, s), func() bool { return i.State() == s })
	}
}

func TestInstancesShareABreaker(t *testing.T) {
	s := settings()
	s.Timeout = 300 * time.Millisecond
	eachStore(t, func(t *testing.T, stores []Store) {
		all := fleet(t, stores, s)
		// One failure at each instance makes three in a row.
		for _, i := range all {
			i.fail(t, 1)
		}
		eventually(t, all, 5*time.Second, Open)
		testkit.Eventually(t, 5*time.Second, "the timeout is over", func() bool { n, _ := all[1].Ready(time.Now()); return n > 0 })
		var probes []Permit
		for _, i := range []*instance{all[1], all[2]} {
			var p Permit
			testkit.Eventually(t, 5*time.Second, "a probe is let through", func() (ok bool) {
				var err error
				p, err = i.Allow(t.Context(), time.Now())
				return err == nil
			})
			if !p.Probe() {
				t.Fatal("the permit of a half-open breaker is no probe")
			}
			probes = append(probes, p)
		}
		eventually(t, all, 5*time.Second, HalfOpen)
		if _, err := all[0].Allow(t.Context(), time.Now()); !errors.Is(err, ErrProbing) {
			t.Errorf("a third probe has error %v, want %v", err, ErrProbing)
		}
		for _, p := range probes {
			p.Done(Success, time.Millisecond, time.Now())
		}
		eventually(t, all, 5*time.Second, Closed)
		checkChanges(t, all)
	})
}

// checkChanges checks that each change is told as its own by just one instance
// and was seen by all.
func checkChanges(t *testing.T, all []*instance) {
	t.Helper()
	// An instance may see its own change before it hears that the change is its own.
	testkit.Eventually(t, 5*time.Second, "all three changes are told as an instance's own", func() bool {
		own := 0
		for _, i := range all {
			own += len(i.own())
		}
		return own >= 3
	})
	counts := map[string]int{}
	for _, i := range all {
		for _, c := range i.own() {
			counts[c]++
		}
	}
	for _, change := range []string{"CLOSED>OPEN failures", "OPEN>HALF_OPEN timeout", "HALF_OPEN>CLOSED probes_succeeded"} {
		if counts[change] != 1 {
			t.Errorf("%s is told %d times as an instance's own, want once", change, counts[change])
		}
	}
	if len(counts) != 3 {
		t.Errorf("the instances' own changes are %v, want three", counts)
	}
	seen := 0
	for _, i := range all {
		seen += i.seen(Open)
	}
	if seen != len(all)-1 {
		t.Errorf("%d instances saw another open the breaker, want %d", seen, len(all)-1)
	}
}

// Over all instances together no more probes are in flight than may be, through
// many rounds of opening and closing.
func TestProbesStayWithinTheBoundOverAllInstances(t *testing.T) {
	const most = 2
	s := Settings{Threshold: 2, Timeout: 5 * time.Millisecond, HalfOpenMaxRequests: most, HalfOpenSuccesses: 3, ProbeLease: time.Minute}
	eachStore(t, func(t *testing.T, stores []Store) {
		all := fleet(t, stores, s)
		var inFlight, worst, probes atomic.Int64
		var workers sync.WaitGroup
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		for id := range 8 {
			workers.Go(func() {
				r := rand.New(rand.NewPCG(1, uint64(id)))
				i := all[id%len(all)]
				for ctx.Err() == nil && probes.Load() < 200 {
					p, err := i.Allow(ctx, time.Now())
					if err != nil {
						pause(ctx, time.Millisecond)
						continue
					}
					if p.Probe() {
						probes.Add(1)
						n := inFlight.Add(1)
						for w := worst.Load(); n > w && !worst.CompareAndSwap(w, n); w = worst.Load() {
						}
					}
					pause(ctx, time.Duration(r.IntN(2000))*time.Microsecond)
					if p.Probe() {
						inFlight.Add(-1)
					}
					result := Success
					if r.IntN(3) == 0 {
						result = Failure
					}
					p.Done(result, time.Millisecond, time.Now())
				}
			})
		}
		workers.Wait()
		if probes.Load() < 200 {
			t.Errorf("only %d probes were let through in 20 s, want 200", probes.Load())
		}
		if worst.Load() > most {
			t.Errorf("%d probes were in flight at once, want at most %d", worst.Load(), most)
		}
	})
}

func TestProbeOfADeadInstanceIsGivenBack(t *testing.T) {
	s := Settings{Threshold: 1, Timeout: time.Millisecond, HalfOpenMaxRequests: 1, HalfOpenSuccesses: 1, ProbeLease: 300 * time.Millisecond}
	eachStore(t, func(t *testing.T, stores []Store) {
		all := fleet(t, stores, s)
		all[0].fail(t, 1)
		testkit.Eventually(t, 5*time.Second, "the first instance has the probe", func() bool {
			p, err := all[0].Allow(t.Context(), time.Now())
			return err == nil && p.Probe()
		})
		all[0].stop()
		eventually(t, all[1:], 5*time.Second, HalfOpen)
		if n, next := all[1].Ready(time.Now()); n != 0 || next.IsZero() {
			t.Errorf("while the dead instance has the probe %d may go, next at %v, want 0 and a time", n, next)
		}
		testkit.Eventually(t, 5*time.Second, "the second instance gets the probe", func() bool {
			p, err := all[1].Allow(t.Context(), time.Now())
			if err != nil {
				return false
			}
			p.Done(Success, time.Millisecond, time.Now())
			return true
		})
		eventually(t, all[1:], 5*time.Second, Closed)
	})
}

func TestAnInstanceThatJoinsKnowsWhatIsOpen(t *testing.T) {
	eachStore(t, func(t *testing.T, stores []Store) {
		first := run(t, "first", stores[0], settings())
		if _, err := first.Hold(t.Context(), key, "maintenance"); err != nil {
			t.Fatal(err)
		}
		second := run(t, "second", stores[1], settings())
		if _, err := second.Allow(t.Context(), time.Now()); !errors.Is(err, ErrOpen) {
			t.Errorf("the error is %v, want %v", err, ErrOpen)
		}
		if _, err := second.Reset(t.Context(), key, ""); err != nil {
			t.Fatal(err)
		}
		eventually(t, []*instance{first, second}, 5*time.Second, Closed)
	})
}

// What instances counted, one by one or in batches, is in the store when they
// have stopped.
func TestTotalsAreComplete(t *testing.T) {
	eachStore(t, func(t *testing.T, stores []Store) {
		all := fleet(t, stores, Settings{Threshold: 1_000_000})
		var workers sync.WaitGroup
		for _, i := range all {
			workers.Go(func() {
				for n := range 1000 {
					p, err := i.Allow(t.Context(), time.Now())
					if err != nil {
						t.Errorf("no permit: %v", err)
						return
					}
					p.Done([]Result{Success, Success, Failure, Ignored}[n%4], time.Millisecond, time.Now())
				}
			})
		}
		workers.Wait()
		for _, i := range all {
			i.stop()
		}
		circuits, err := stores[0].Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range circuits {
			if c.ServiceKey == key && (c.TotalRequests != 3000 || c.TotalFailures != 750) {
				t.Errorf("totals are %d/%d, want 750/3000", c.TotalFailures, c.TotalRequests)
			}
		}
	})
}
