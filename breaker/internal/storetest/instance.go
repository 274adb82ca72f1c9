package storetest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/internal/testkit"
)

// Key is the key of the breaker that every [Instance] has.
const Key = "billing:charge"

// Instance is a running group with one of its breakers.
type Instance struct {
	*breaker.Group
	*breaker.Breaker
	// Stop ends the instance; it may be called more than once.
	Stop func()

	mu      sync.Mutex // guards the fields below
	changes []breaker.Change
	status  []breaker.Status
}

// Launch starts an instance on a store and returns once it has joined. It is stopped when the
// test ends.
func Launch(t testing.TB, name string, store breaker.Store, s breaker.Settings) *Instance {
	t.Helper()
	i := &Instance{}
	i.Group = breaker.NewGroup(breaker.Config{
		Instance: name, Store: store,
		Changed: func(c breaker.Change) {
			i.mu.Lock()
			defer i.mu.Unlock()
			i.changes = append(i.changes, c)
		},
		StatusChanged: func(s breaker.Status) {
			t.Logf("%s: shared %v, error %v", name, s.Shared, s.Err)
			i.mu.Lock()
			defer i.mu.Unlock()
			i.status = append(i.status, s)
		},
	})
	i.Breaker = i.Group.Breaker(Key, s)
	if err := i.Join(t.Context()); err != nil {
		t.Fatalf("%s: joining: %v", name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		i.Run(ctx)
	}()
	i.Stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(i.Stop)
	return i
}

// Fleet runs an instance on each store, and waits until all receive each other's changes.
func Fleet(t testing.TB, stores []breaker.Store, s breaker.Settings) []*Instance {
	t.Helper()
	var all []*Instance
	for n, store := range stores {
		all = append(all, Launch(t, fmt.Sprintf("instance%d", n), store, s))
	}
	for n, i := range all {
		// A trip of another key, seen by all, proves that all are watching.
		other := fmt.Sprintf("ready:%d", n)
		testkit.Eventually(t, 20*time.Second, "all instances follow "+other, func() bool {
			if _, err := i.Trip(t.Context(), other, 0, breaker.Operator{}); err != nil {
				return false
			}
			return !slices.ContainsFunc(all, func(j *Instance) bool {
				b, ok := j.Lookup(other)
				return !ok || b.State() != breaker.Open
			})
		})
	}
	return all
}

// Fail makes n failed attempts.
func (i *Instance) Fail(t testing.TB, n int) {
	t.Helper()
	for range n {
		p, err := i.Allow(t.Context(), time.Now())
		if err != nil {
			t.Fatalf("no permit to fail with: %v", err)
		}
		p.Done(breaker.Failure, time.Millisecond, time.Now())
	}
}

// Own returns the changes that the instance made.
func (i *Instance) Own() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	var own []string
	for _, c := range i.changes {
		if c.Own && c.Key == Key {
			own = append(own, fmt.Sprintf("%v>%v %s", c.From, c.To, c.Cause))
		}
	}
	return own
}

// Seen counts the changes to a state that other instances made and this one saw.
func (i *Instance) Seen(to breaker.State) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	n := 0
	for _, c := range i.changes {
		if !c.Own && c.Key == Key && c.To == to {
			n++
		}
	}
	return n
}

// Eventually waits until the breaker is in state s at all instances.
func Eventually(t testing.TB, all []*Instance, s breaker.State) {
	t.Helper()
	for n, i := range all {
		testkit.Eventually(t, Converge, fmt.Sprintf("instance %d is %v", n, s), func() bool { return i.State() == s })
	}
}

// Results makes one attempt for each result, all at now.
func Results(t testing.TB, b *breaker.Breaker, now time.Time, results ...breaker.Result) {
	t.Helper()
	for _, r := range results {
		p, err := b.Allow(t.Context(), now)
		if err != nil {
			t.Fatalf("no permit: %v", err)
		}
		p.Done(r, time.Millisecond, now)
	}
}

// Alone waits until the instance reports that it is alone.
func Alone(t testing.TB, i *Instance) {
	t.Helper()
	testkit.Eventually(t, 20*time.Second, "the instance being alone", func() bool {
		s := i.Status()
		return !s.Shared && s.Err != nil
	})
}

// Converge bounds the time until all instances agree. Once the store is back that takes a second at
// most by the tests of package breaker, which have their own clock; here the machine may be busy.
const Converge = 20 * time.Second

// Agreed waits until all instances share the store and the breaker is in state s at each.
func Agreed(t testing.TB, all []*Instance, s breaker.State) {
	t.Helper()
	began := time.Now()
	testkit.Eventually(t, Converge, "all instances share the store and are "+s.String(), func() bool {
		return !slices.ContainsFunc(all, func(i *Instance) bool { return !i.Status().Shared || i.State() != s })
	})
	t.Logf("agreed after %v", time.Since(began))
}

// Losses returns the error of each loss of the store.
func (i *Instance) Losses() []error {
	i.mu.Lock()
	defer i.mu.Unlock()
	var errs []error
	for _, s := range i.status {
		if !s.Shared {
			errs = append(errs, s.Err)
		}
	}
	return errs
}
