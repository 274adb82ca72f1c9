package breaker

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// distant is a store that may be out of reach, and then does not answer.
type distant struct {
	*Memory
	mu   sync.Mutex
	away chan struct{} // closed when the store is back, nil while it is within reach; guarded by mu
}

// leave takes the store out of reach until back is called.
func (d *distant) leave() (back func()) {
	away := make(chan struct{})
	d.set(away)
	return func() { d.set(nil); close(away) }
}

func (d *distant) set(away chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.away = away
}

// reach waits until the store is within reach.
func (d *distant) reach(ctx context.Context) error {
	d.mu.Lock()
	away := d.away
	d.mu.Unlock()
	if away == nil {
		return nil
	}
	select {
	case <-away:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *distant) Apply(ctx context.Context, key string, e Event, now time.Time, s Settings) (Reply, error) {
	if err := d.reach(ctx); err != nil {
		return Reply{}, err
	}
	return d.Memory.Apply(ctx, key, e, now, s)
}

func (d *distant) Load(ctx context.Context) ([]Circuit, error) {
	if err := d.reach(ctx); err != nil {
		return nil, err
	}
	return d.Memory.Load(ctx)
}

func (d *distant) Ping(ctx context.Context) (Pulse, error) {
	if err := d.reach(ctx); err != nil {
		return Pulse{}, err
	}
	return d.Memory.Ping(ctx)
}

// runGroups runs n groups on a store and returns the breaker of one key in each.
func runGroups(t *testing.T, store Store, n int) (groups []*Group, breakers []*Breaker) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })
	for i := range n {
		g := NewGroup(Config{Instance: fmt.Sprint("instance", i), Store: store})
		groups, breakers = append(groups, g), append(breakers, g.Breaker("billing:charge", settings()))
		if err := g.Join(ctx); err != nil {
			t.Fatal(err)
		}
		running.Go(func() { g.Run(ctx) })
	}
	synctest.Wait()
	return groups, breakers
}

func TestBreaker_ClosedOneWaitsForNothingOfItsStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &distant{Memory: NewMemory()}
		_, breakers := runGroups(t, store, 1)
		defer store.leave()()
		began := time.Now()
		results(t, breakers[0], began, Failure, Failure, Failure)
		if took := time.Since(began); took != 0 {
			t.Errorf("three attempts at a closed breaker took %v while its store gave no answer", took)
		}
		time.Sleep(storeTimeout)
		synctest.Wait()
		if s := breakers[0].State(); s != Open {
			t.Errorf("once it is alone it is %v, want OPEN by what it saw itself", s)
		}
	})
}

func TestGroup_AgreesWithinASecondOfTheReturnOfItsStore(t *testing.T) {
	for _, away := range []time.Duration{storeTimeout / 2, 2 * storeTimeout, 10*storeTimeout + 100*time.Millisecond} {
		t.Run(fmt.Sprint("after ", away), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &distant{Memory: NewMemory()}
				groups, breakers := runGroups(t, store, 3)
				back := store.leave()
				results(t, breakers[0], time.Now(), Failure, Failure, Failure)
				time.Sleep(away)
				back()
				time.Sleep(time.Second)
				synctest.Wait()
				for i, g := range groups {
					if s := g.Status(); !s.Shared {
						t.Errorf("a second after the store came back instance %d does not share it: %v", i, s.Err)
					}
				}
				if i := slices.IndexFunc(breakers, func(b *Breaker) bool { return b.State() != Open }); i >= 0 {
					t.Errorf("a second after the store came back the breaker of instance %d is %v, want OPEN", i, breakers[i].State())
				}
			})
		})
	}
}

// replaceable is a store that may be replaced by an empty one. Whoever watches the old one hears
// nothing more, and no error either.
type replaceable struct {
	*Memory
	now atomic.Pointer[Memory]
}

func (r *replaceable) Apply(ctx context.Context, key string, e Event, now time.Time, s Settings) (Reply, error) {
	return r.now.Load().Apply(ctx, key, e, now, s)
}

func (r *replaceable) Load(ctx context.Context) ([]Circuit, error) { return r.now.Load().Load(ctx) }

func (r *replaceable) Watch(ctx context.Context, ready func(), changed func(Circuit)) error {
	return r.now.Load().Watch(ctx, ready, changed)
}

func (r *replaceable) Ping(context.Context) (Pulse, error) {
	return Pulse{Epoch: fmt.Sprintf("%p", r.now.Load())}, nil
}

func TestGroup_WatchesAStoreThatWasReplacedBetweenTwoPings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &replaceable{Memory: NewMemory()}
		store.now.Store(store.Memory)
		groups, breakers := runGroups(t, store, 2)
		store.now.Store(NewMemory())
		time.Sleep(2 * sharedCheckEvery)
		if _, err := groups[0].Hold(t.Context(), "billing:charge", Operator{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if state := breakers[1].State(); state != Open {
			t.Errorf("the other instance knows the breaker as %s, want it to hear of the new store's changes", state)
		}
	})
}
