package breaker

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rebound-mq/rebound/internal/embedded"
	"github.com/rebound-mq/rebound/internal/testkit"
)

// converge is within what time all instances must agree once the store is back.
const converge = time.Second

func alone(t *testing.T, i *instance) {
	t.Helper()
	testkit.Eventually(t, 5*time.Second, "the instance says that it is alone", func() bool {
		s := i.Status()
		return !s.Shared && s.Err != nil
	})
}

// agreed waits until all instances share the store and the breaker is s at each.
func agreed(t *testing.T, all []*instance, s State) {
	t.Helper()
	began := time.Now()
	testkit.Eventually(t, converge, "all instances share the store and are "+s.String(), func() bool {
		return !slices.ContainsFunc(all, func(i *instance) bool { return !i.Status().Shared || i.State() != s })
	})
	t.Logf("agreed after %v", time.Since(began))
}

func TestRedisKilledAndRestartedEmpty(t *testing.T) {
	r := testkit.Redis(t)
	all := fleet(t, handles(3, func() Store { return redisStore(t, r.Addr()) }), settings())
	if _, err := all[0].Trip(t.Context(), key, time.Hour, ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, all, 5*time.Second, Open)
	r.Stop()
	for _, i := range all {
		alone(t, i)
		if _, err := i.Allow(t.Context(), time.Now()); !errors.Is(err, ErrOpen) {
			t.Errorf("without Redis the error is %v, want %v", err, ErrOpen)
		}
	}
	r.Restart()
	agreed(t, all, Open)
	late := run(t, "late", redisStore(t, r.Addr()), settings())
	if late.State() != Open {
		t.Errorf("an instance that joins the new Redis finds it %v, want OPEN", late.State())
	}
}

func TestAGroupKnowsHowSlowItsStoreIs(t *testing.T) {
	r := testkit.Redis(t)
	i := fleet(t, handles(1, func() Store { return redisStore(t, r.Addr()) }), settings())[0]
	if got := i.Delay(); got <= 0 || got > patience {
		t.Errorf("the store took %v to answer, want more than 0 and at most %v", got, patience)
	}
	r.Stop()
	alone(t, i)
	testkit.Eventually(t, 5*time.Second, "nobody waits for a store that is out of reach", func() bool { return i.Delay() == 0 })
	if got := NewGroup(Config{}).Delay(); got != 0 {
		t.Errorf("without a store the delay is %v, want 0", got)
	}
}

func TestRedisPaused(t *testing.T) {
	r := testkit.Redis(t)
	s := settings()
	s.Timeout = 300 * time.Millisecond
	all := fleet(t, handles(3, func() Store { return redisStore(t, r.Addr()) }), s)
	r.Pause()
	// A closed breaker waits for nothing, and opens by what it sees itself.
	began := time.Now()
	all[0].fail(t, 3)
	if took := time.Since(began); took > 100*time.Millisecond {
		t.Errorf("three attempts at a closed breaker took %v while Redis was paused", took)
	}
	eventually(t, all[:1], 5*time.Second, Open)
	alone(t, all[0])
	if _, err := all[0].Trip(t.Context(), key, time.Hour, ""); !errors.Is(err, ErrAlone) {
		t.Errorf("an operator's action has error %v, want %v", err, ErrAlone)
	}
	for _, i := range all[1:] {
		alone(t, i)
		if i.State() != Closed {
			t.Errorf("another instance is %v, want CLOSED", i.State())
		}
	}
	r.Resume()
	agreed(t, all, Open)
}

// A probe is not waited for longer than the instance is patient, and then, once the
// others have none in flight any more, the instance decides alone.
func TestProbeWhileRedisIsPaused(t *testing.T) {
	r := testkit.Redis(t)
	s := settings()
	s.Timeout = 50 * time.Millisecond
	i := run(t, "one", redisStore(t, r.Addr()), s)
	i.fail(t, 3)
	eventually(t, []*instance{i}, 5*time.Second, Open)
	testkit.Eventually(t, 5*time.Second, "the timeout is over", func() bool { n, _ := i.Ready(time.Now()); return n > 0 })
	r.Pause()
	began := time.Now()
	if _, err := i.Allow(t.Context(), time.Now()); !errors.Is(err, ErrOpen) {
		t.Errorf("as long as others may probe the error is %v, want %v", err, ErrOpen)
	}
	if took := time.Since(began); took > 4*patience {
		t.Errorf("the probe waited for %v, want about %v", took, patience)
	}
	var p Permit
	testkit.Eventually(t, 5*probesAlone, "a probe without the store", func() bool {
		var err error
		p, err = i.Allow(t.Context(), time.Now())
		return err == nil && p.Probe()
	})
	if _, err := i.Allow(t.Context(), time.Now()); !errors.Is(err, ErrProbing) {
		t.Errorf("a second probe without the store has error %v, want %v", err, ErrProbing)
	}
	p.Done(Success, time.Millisecond, time.Now())
	r.Resume()
	agreed(t, []*instance{i}, HalfOpen)
	testkit.Eventually(t, 5*time.Second, "no probe is in flight any more", func() bool { return len(i.Circuit().Probes) == 0 })
}

func TestAllowEndsWithItsContext(t *testing.T) {
	r := testkit.Redis(t)
	s := settings()
	s.Timeout = 50 * time.Millisecond
	i := run(t, "one", redisStore(t, r.Addr()), s)
	i.fail(t, 3)
	eventually(t, []*instance{i}, 5*time.Second, Open)
	testkit.Eventually(t, 5*time.Second, "the timeout is over", func() bool { n, _ := i.Ready(time.Now()); return n > 0 })
	r.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := i.Allow(ctx, time.Now()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the error is %v, want %v", err, context.DeadlineExceeded)
	}
	r.Resume()
	testkit.Eventually(t, 10*time.Second, "the probe that nobody has is given back", func() bool {
		return i.Status().Shared && len(i.Circuit().Probes) == 0
	})
}

func TestRedisFlushed(t *testing.T) {
	r := testkit.Redis(t)
	all := fleet(t, handles(3, func() Store { return redisStore(t, r.Addr()) }), settings())
	if _, err := all[0].Hold(t.Context(), key, "maintenance"); err != nil {
		t.Fatal(err)
	}
	eventually(t, all, 5*time.Second, Open)
	client := redis.NewClient(&redis.Options{Addr: r.Addr()})
	defer client.Close()
	if err := client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	reader := redisStore(t, r.Addr())
	testkit.Eventually(t, converge, "Redis holds the breaker again", func() bool {
		circuits, err := reader.Load(t.Context())
		return err == nil && slices.ContainsFunc(circuits, func(c Circuit) bool { return c.ServiceKey == key && c.Held })
	})
	agreed(t, all, Open)
}

// cut gives three instances of which the first is behind a proxy.
func cut(t *testing.T) (*testkit.CutProxy, []*instance) {
	t.Helper()
	r := testkit.Redis(t)
	p := testkit.Proxy(t, r.Addr())
	stores := []Store{redisStore(t, p.Addr()), redisStore(t, r.Addr()), redisStore(t, r.Addr())}
	return p, fleet(t, stores, settings())
}

func TestCutFromRedisWhatTheInstanceSawWins(t *testing.T) {
	p, all := cut(t)
	results(t, all[1].Breaker, time.Now(), Success)
	testkit.Eventually(t, 5*time.Second, "Redis holds the breaker", func() bool { return all[1].Circuit().Version > 0 })
	p.Cut()
	alone(t, all[0])
	all[0].fail(t, 3)
	if all[0].State() != Open || all[1].State() != Closed {
		t.Fatalf("the cut instance is %v and another %v, want OPEN and CLOSED", all[0].State(), all[1].State())
	}
	p.Mend()
	agreed(t, all, Open)
	if c := all[1].Circuit(); c.Cause != CauseMerged || c.TotalFailures != 3 || c.TotalRequests != 4 {
		t.Errorf("the others have cause %s and totals %d/%d, want %s and 3/4", c.Cause, c.TotalFailures, c.TotalRequests, CauseMerged)
	}
}

func TestCutFromRedisWhatTheOthersDidIsLearnt(t *testing.T) {
	p, all := cut(t)
	p.Cut()
	alone(t, all[0])
	results(t, all[0].Breaker, time.Now(), Success, Success)
	all[1].fail(t, 3)
	eventually(t, all[1:], 5*time.Second, Open)
	p.Mend()
	agreed(t, all, Open)
	if all[0].seen(Open) != 1 {
		t.Errorf("the instance was told %d times that the breaker opened, want once", all[0].seen(Open))
	}
}

// What an instance merely remembers is not worse than what happened since.
func TestCutFromRedisAMemoryDoesNotWin(t *testing.T) {
	p, all := cut(t)
	if _, err := all[0].Hold(t.Context(), key, ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, all, 5*time.Second, Open)
	p.Cut()
	alone(t, all[0])
	if _, err := all[1].Reset(t.Context(), key, ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, all[1:], 5*time.Second, Closed)
	p.Mend()
	agreed(t, all, Closed)
}

// Whatever was counted before, during and after the cut is in the totals, once.
func TestCutFromRedisTotalsAreComplete(t *testing.T) {
	p, all := cut(t)
	i := all[0]
	count := func(n int) { results(t, i.Breaker, time.Now(), slices.Repeat([]Result{Success, Failure}, n/2)...) }
	count(100)
	reader := all[1].Group
	total := func() (requests, failures uint64) {
		circuits, err := reader.Circuits(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range circuits {
			if c.ServiceKey == key {
				return c.TotalRequests, c.TotalFailures
			}
		}
		return 0, 0
	}
	testkit.Eventually(t, 5*time.Second, "what came before the cut has arrived", func() bool { n, _ := total(); return n == 100 })
	p.Cut()
	alone(t, i)
	count(100)
	p.Mend()
	counted := 200
	for !i.Status().Shared {
		count(100)
		counted += 100
		pause(t.Context(), time.Millisecond)
	}
	count(100)
	i.stop()
	requests, failures := total()
	if requests != uint64(counted+100) || failures != uint64(counted+100)/2 {
		t.Errorf("totals are %d/%d, want %d/%d", failures, requests, (counted+100)/2, counted+100)
	}
}

func TestNATSRestarted(t *testing.T) {
	dir, port := t.TempDir(), embedded.RandomPort
	serve := func() *testkit.NATSServer {
		return testkit.Server(t, func(o *embedded.Options) { o.StoreDir, o.Port = dir, port })
	}
	s := serve()
	port = s.Port()
	all := fleet(t, handles(3, func() Store {
		return NewNATS(testkit.JetStream(t, testkit.Connect(t, s.ClientURL())), "", 1)
	}), settings())
	s.Shutdown()
	for _, i := range all {
		alone(t, i)
	}
	all[0].fail(t, 3)
	if all[0].State() != Open || all[1].State() != Closed {
		t.Fatalf("one instance is %v and another %v, want OPEN and CLOSED", all[0].State(), all[1].State())
	}
	serve()
	// The connections come back by themselves within their own time.
	testkit.Eventually(t, 10*time.Second, "all instances share the store and are OPEN", func() bool {
		return !slices.ContainsFunc(all, func(i *instance) bool { return !i.Status().Shared || i.State() != Open })
	})
	if _, err := all[1].Reset(t.Context(), key, ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, all, 5*time.Second, Closed)
}

func TestGroupWithoutItsStoreAtTheStart(t *testing.T) {
	r := testkit.Redis(t)
	store := redisStore(t, r.Addr())
	r.Stop()
	g := NewGroup(Config{Store: store})
	if err := g.Join(t.Context()); err == nil {
		t.Error("joining a Redis that is not there has no error")
	}
	b := g.Breaker(key, settings())
	results(t, b, time.Now(), Success, Failure)
	if s := g.Status(); s.Shared || s.Err == nil {
		t.Errorf("the status is %+v, want alone with an error", s)
	}
	r.Restart()
	if err := g.Join(t.Context()); err != nil {
		t.Errorf("joining the Redis that is back: %v", err)
	}
	if c := b.Circuit(); c.TotalRequests != 2 || c.FailureCount != 1 || !g.Status().Shared {
		t.Errorf("after joining: %d requests, %d failures in a row, shared %v, want 2, 1, true", c.TotalRequests, c.FailureCount, g.Status().Shared)
	}
}
