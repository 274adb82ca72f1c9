package natsstore

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/breaker/internal/storetest"
	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/internal/testkit"
)

// inFlight counts probes, as their target sees them.
type inFlight struct {
	mu              sync.Mutex
	now, most, made int
}

func (f *inFlight) add(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now += n
	f.most = max(f.most, f.now)
	f.made += max(n, 0)
}

// contend has an instance make one probe after another until ctx ends; a fifth of them fail.
func contend(ctx context.Context, t *testing.T, i *storetest.Instance, f *inFlight, random *rand.Rand) {
	for ctx.Err() == nil {
		p, err := i.Allow(ctx, time.Now())
		if errors.Is(err, breaker.ErrOpen) || errors.Is(err, breaker.ErrProbing) {
			backoff.Sleep(ctx, time.Millisecond)
			continue
		}
		if err != nil {
			if ctx.Err() == nil {
				t.Errorf("asking for a permit: %v", err)
			}
			return
		}
		probe := p.Probe()
		if probe {
			f.add(1)
		}
		backoff.Sleep(ctx, time.Duration(random.Int64N(int64(10*time.Millisecond))))
		if probe {
			f.add(-1)
		}
		result := breaker.Success
		if random.IntN(5) == 0 {
			result = breaker.Failure
		}
		p.Done(result, time.Millisecond, time.Now())
	}
}

// onThreeNodes runs three instances that contend for the probes of one breaker on a cluster, each
// connected to its own server.
func onThreeNodes(t *testing.T, meanwhile func(done <-chan struct{}, js jetstream.JetStream)) {
	t.Helper()
	cluster := testkit.Cluster(t, 3)
	makeBucket(t, testkit.JetStream(t, testkit.Connect(t, cluster.URL())))
	var stores []breaker.Store
	for _, url := range cluster.URLs() {
		stores = append(stores, New(testkit.JetStream(t, testkit.Connect(t, url)), "BREAKERS", 3))
	}
	s := breaker.Settings{Threshold: 1, Timeout: 5 * time.Millisecond, HalfOpenMaxRequests: 2, HalfOpenSuccesses: 1_000_000, ProbeLease: time.Minute}
	all := storetest.Fleet(t, stores, s)
	all[0].Fail(t, 1)
	storetest.Eventually(t, all, breaker.Open)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var f inFlight
	var contending sync.WaitGroup
	for n, i := range all {
		for m := range 3 {
			contending.Go(func() { contend(ctx, t, i, &f, rand.New(rand.NewPCG(uint64(n), uint64(m)))) })
		}
	}
	enough, end := context.WithTimeout(ctx, 10*time.Second)
	defer end()
	meanwhile(enough.Done(), testkit.JetStream(t, testkit.Connect(t, cluster.URL())))
	cancel()
	contending.Wait()
	bound, lost := s.HalfOpenMaxRequests, 0
	for n, i := range all {
		for _, err := range i.Losses() {
			lost++
			if streams.IsConflict(err) {
				t.Errorf("instance %d took contention for a store that is out of reach: %v", n, err)
			}
		}
	}
	if lost > 0 {
		// A machine too busy to answer within the instance's patience looks like a store out of
		// reach.
		bound += len(all)
	}
	t.Logf("%d probes, at most %d at once; %d times an instance was alone", f.made, f.most, lost)
	if f.most > bound || f.made < 20 {
		t.Errorf("%d probes were made, %d of them at once, want at least 20 and at most %d at once", f.made, f.most, bound)
	}
}

func makeBucket(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	testkit.Eventually(t, time.Minute, "the bucket", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, err := New(js, "BREAKERS", 3).openBucket(ctx)
		return err == nil
	})
}

func TestStore_ProbesStayWithinTheBoundOnACluster(t *testing.T) {
	t.Parallel()
	onThreeNodes(t, func(done <-chan struct{}, _ jetstream.JetStream) { <-done })
}

func TestStore_ProbesStayWithinTheBoundWhileTheLeaderMoves(t *testing.T) {
	t.Parallel()
	onThreeNodes(t, func(done <-chan struct{}, js jetstream.JetStream) {
		if moved := testkit.MoveLeader(t, js, "KV_BREAKERS", 500*time.Millisecond, done); moved == 0 {
			t.Error("the leader never moved")
		}
	})
}
