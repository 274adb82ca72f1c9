package redisstore

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/breaker/internal/storetest"
	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/internal/testkit"
)

// Copies of the constants of package breaker.
const storeTimeout, probesAlone = 2 * time.Second, 2 * time.Second

func TestStore_RestartedEmptyLearnsWhatIsOpen(t *testing.T) {
	t.Parallel()
	r := testkit.Redis(t)
	all := storetest.Fleet(t, storetest.Handles(3, func() breaker.Store { return redisStore(t, r.Addr()) }), storetest.Settings())
	if _, err := all[0].Trip(t.Context(), storetest.Key, time.Hour, breaker.Operator{}); err != nil {
		t.Fatal(err)
	}
	storetest.Eventually(t, all, breaker.Open)
	r.Stop()
	for _, i := range all {
		storetest.Alone(t, i)
		if _, err := i.Allow(t.Context(), time.Now()); !errors.Is(err, breaker.ErrOpen) {
			t.Errorf("without Redis the error is %v, want %v", err, breaker.ErrOpen)
		}
	}
	r.Restart()
	storetest.Agreed(t, all, breaker.Open)
	late := storetest.Launch(t, "late", redisStore(t, r.Addr()), storetest.Settings())
	if late.State() != breaker.Open {
		t.Errorf("an instance that joins the new Redis finds it %v, want OPEN", late.State())
	}
}

func TestStore_DelayIsKnownWhileItIsInReach(t *testing.T) {
	t.Parallel()
	r := testkit.Redis(t)
	i := storetest.Fleet(t, storetest.Handles(1, func() breaker.Store { return redisStore(t, r.Addr()) }), storetest.Settings())[0]
	if got := i.Delay(); got <= 0 || got > storeTimeout {
		t.Errorf("the store took %v to answer, want more than 0 and at most %v", got, storeTimeout)
	}
	r.Stop()
	storetest.Alone(t, i)
	testkit.Eventually(t, 20*time.Second, "no delay of a store that is out of reach", func() bool { return i.Delay() == 0 })
	if got := breaker.NewGroup(breaker.Config{}).Delay(); got != 0 {
		t.Errorf("without a store the delay is %v, want 0", got)
	}
}

func TestStore_PausedLeavesEachInstanceAlone(t *testing.T) {
	t.Parallel()
	r := testkit.Redis(t)
	s := storetest.Settings()
	s.Timeout = 300 * time.Millisecond
	all := storetest.Fleet(t, storetest.Handles(3, func() breaker.Store { return redisStore(t, r.Addr()) }), s)
	r.Pause()
	// A closed breaker opens by its own results. That it does not wait for the store is tested in
	// package breaker, with its own clock.
	all[0].Fail(t, 3)
	storetest.Eventually(t, all[:1], breaker.Open)
	storetest.Alone(t, all[0])
	if _, err := all[0].Trip(t.Context(), storetest.Key, time.Hour, breaker.Operator{}); !errors.Is(err, breaker.ErrAlone) {
		t.Errorf("an operator's action has error %v, want %v", err, breaker.ErrAlone)
	}
	for _, i := range all[1:] {
		storetest.Alone(t, i)
		if i.State() != breaker.Closed {
			t.Errorf("another instance is %v, want CLOSED", i.State())
		}
	}
	r.Resume()
	storetest.Agreed(t, all, breaker.Open)
}

// A probe waits for the store only within the instance's storeTimeout. Once the others have no probes
// in flight any more, the instance decides alone.
func TestStore_PausedAllowsOneProbeAtATime(t *testing.T) {
	t.Parallel()
	r := testkit.Redis(t)
	s := storetest.Settings()
	s.Timeout = 50 * time.Millisecond
	i := storetest.Launch(t, "one", redisStore(t, r.Addr()), s)
	i.Fail(t, 3)
	storetest.Eventually(t, []*storetest.Instance{i}, breaker.Open)
	testkit.Eventually(t, 20*time.Second, "the timeout is over", func() bool { n, _ := i.Ready(time.Now()); return n > 0 })
	r.Pause()
	began := time.Now()
	if _, err := i.Allow(t.Context(), time.Now()); !errors.Is(err, breaker.ErrOpen) {
		t.Errorf("as long as others may probe the error is %v, want %v", err, breaker.ErrOpen)
	}
	if took := time.Since(began); took > 4*storeTimeout {
		t.Errorf("the probe waited for %v, want about %v", took, storeTimeout)
	}
	var p breaker.Permit
	testkit.Eventually(t, 5*probesAlone, "a probe without the store", func() bool {
		var err error
		p, err = i.Allow(t.Context(), time.Now())
		return err == nil && p.Probe()
	})
	if _, err := i.Allow(t.Context(), time.Now()); !errors.Is(err, breaker.ErrProbing) {
		t.Errorf("a second probe without the store has error %v, want %v", err, breaker.ErrProbing)
	}
	p.Done(breaker.Success, time.Millisecond, time.Now())
	r.Resume()
	storetest.Agreed(t, []*storetest.Instance{i}, breaker.HalfOpen)
	testkit.Eventually(t, 20*time.Second, "no probe in flight", func() bool { return len(i.Circuit().Probes) == 0 })
}

func TestStore_AllowEndsWithItsContext(t *testing.T) {
	t.Parallel()
	r := testkit.Redis(t)
	s := storetest.Settings()
	s.Timeout = 50 * time.Millisecond
	i := storetest.Launch(t, "one", redisStore(t, r.Addr()), s)
	i.Fail(t, 3)
	storetest.Eventually(t, []*storetest.Instance{i}, breaker.Open)
	testkit.Eventually(t, 20*time.Second, "the timeout is over", func() bool { n, _ := i.Ready(time.Now()); return n > 0 })
	r.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := i.Allow(ctx, time.Now()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the error is %v, want %v", err, context.DeadlineExceeded)
	}
	r.Resume()
	testkit.Eventually(t, 10*time.Second, "the unused probe being given back", func() bool {
		return i.Status().Shared && len(i.Circuit().Probes) == 0
	})
}

func TestStore_FlushedLearnsWhatIsHeld(t *testing.T) {
	t.Parallel()
	r := testkit.Redis(t)
	all := storetest.Fleet(t, storetest.Handles(3, func() breaker.Store { return redisStore(t, r.Addr()) }), storetest.Settings())
	if _, err := all[0].Hold(t.Context(), storetest.Key, breaker.Operator{Note: "maintenance"}); err != nil {
		t.Fatal(err)
	}
	storetest.Eventually(t, all, breaker.Open)
	client := redis.NewClient(&redis.Options{Addr: r.Addr()})
	defer client.Close()
	if err := client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	reader := redisStore(t, r.Addr())
	testkit.Eventually(t, storetest.Converge, "Redis holds the breaker again", func() bool {
		circuits, err := reader.Load(t.Context())
		return err == nil && slices.ContainsFunc(circuits, func(c breaker.Circuit) bool { return c.ServiceKey == storetest.Key && c.Held })
	})
	storetest.Agreed(t, all, breaker.Open)
}

// cut launches three instances, the first of them behind a proxy.
func cut(t *testing.T) (*testkit.CutProxy, []*storetest.Instance) {
	t.Helper()
	r := testkit.Redis(t)
	p := testkit.Proxy(t, r.Addr())
	stores := []breaker.Store{redisStore(t, p.Addr()), redisStore(t, r.Addr()), redisStore(t, r.Addr())}
	return p, storetest.Fleet(t, stores, storetest.Settings())
}

func TestStore_OpeningSeenWhileCutOffWins(t *testing.T) {
	t.Parallel()
	p, all := cut(t)
	storetest.Results(t, all[1].Breaker, time.Now(), breaker.Success)
	testkit.Eventually(t, 20*time.Second, "Redis holds the breaker", func() bool { return all[1].Circuit().Version > 0 })
	p.Cut()
	storetest.Alone(t, all[0])
	all[0].Fail(t, 3)
	if all[0].State() != breaker.Open || all[1].State() != breaker.Closed {
		t.Fatalf("the cut instance is %v and another %v, want OPEN and CLOSED", all[0].State(), all[1].State())
	}
	p.Mend()
	storetest.Agreed(t, all, breaker.Open)
	if c := all[1].Circuit(); c.Cause != breaker.CauseMerged || c.TotalFailures != 3 || c.TotalRequests != 4 {
		t.Errorf("the others have cause %s and totals %d/%d, want %s and 3/4", c.Cause, c.TotalFailures, c.TotalRequests, breaker.CauseMerged)
	}
}

func TestStore_OpeningByOthersWhileCutOffIsLearnt(t *testing.T) {
	p, all := cut(t)
	p.Cut()
	storetest.Alone(t, all[0])
	storetest.Results(t, all[0].Breaker, time.Now(), breaker.Success, breaker.Success)
	all[1].Fail(t, 3)
	storetest.Eventually(t, all[1:], breaker.Open)
	p.Mend()
	storetest.Agreed(t, all, breaker.Open)
	if all[0].Seen(breaker.Open) != 1 {
		t.Errorf("the instance saw the breaker open %d times, want once", all[0].Seen(breaker.Open))
	}
}

// What an instance only remembers does not outweigh what happened since.
func TestStore_MemoryFromBeforeTheCutDoesNotWin(t *testing.T) {
	p, all := cut(t)
	if _, err := all[0].Hold(t.Context(), storetest.Key, breaker.Operator{}); err != nil {
		t.Fatal(err)
	}
	storetest.Eventually(t, all, breaker.Open)
	p.Cut()
	storetest.Alone(t, all[0])
	if _, err := all[1].Reset(t.Context(), storetest.Key, breaker.Operator{}); err != nil {
		t.Fatal(err)
	}
	storetest.Eventually(t, all[1:], breaker.Closed)
	p.Mend()
	storetest.Agreed(t, all, breaker.Closed)
}

// Everything counted before, during and after the cut is in the totals exactly once.
func TestStore_TotalsAreCompleteThroughCuts(t *testing.T) {
	t.Parallel()
	p, all := cut(t)
	i := all[0]
	count := func(n int) {
		storetest.Results(t, i.Breaker, time.Now(), slices.Repeat([]breaker.Result{breaker.Success, breaker.Failure}, n/2)...)
	}
	count(100)
	reader := all[1].Group
	total := func() (requests, failures uint64) {
		circuits, err := reader.Circuits(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range circuits {
			if c.ServiceKey == storetest.Key {
				return c.TotalRequests, c.TotalFailures
			}
		}
		return 0, 0
	}
	testkit.Eventually(t, 20*time.Second, "the results from before the cut", func() bool { n, _ := total(); return n == 100 })
	p.Cut()
	storetest.Alone(t, i)
	count(100)
	p.Mend()
	counted := 200
	for !i.Status().Shared {
		count(100)
		counted += 100
		backoff.Sleep(t.Context(), time.Millisecond)
	}
	count(100)
	i.Stop()
	requests, failures := total()
	if requests != uint64(counted+100) || failures != uint64(counted+100)/2 {
		t.Errorf("totals are %d/%d, want %d/%d", failures, requests, (counted+100)/2, counted+100)
	}
}

func TestStore_MissingAtTheStartIsJoinedLater(t *testing.T) {
	t.Parallel()
	r := testkit.Redis(t)
	store := redisStore(t, r.Addr())
	r.Stop()
	g := breaker.NewGroup(breaker.Config{Store: store})
	if err := g.Join(t.Context()); err == nil {
		t.Error("joining an absent Redis returns no error")
	}
	b := g.Breaker(storetest.Key, storetest.Settings())
	storetest.Results(t, b, time.Now(), breaker.Success, breaker.Failure)
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
