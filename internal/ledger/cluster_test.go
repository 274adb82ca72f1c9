package ledger_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/ledger"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

const contended = "pay:charge"

// target counts attempts as a target sees them.
type target struct {
	mu              sync.Mutex
	now, most, made int
}

func (f *target) add(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now += n
	f.most = max(f.most, f.now)
	f.made += max(n, 0)
}

func (f *target) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.made
}

// contend renews the lease of an instance and makes attempts by it until ctx ends. It
// returns the errors of the renewals.
func contend(ctx context.Context, name string, store *ledger.NATS, limits gate.Settings, f *target) (failed []error) {
	g := gate.New(limits)
	var attempts sync.WaitGroup
	defer attempts.Wait()
	for ctx.Err() == nil {
		c := g.HandIn(time.Now())
		c.Instance, c.Waiting = name, 10
		began := time.Now()
		call, cancel := context.WithTimeout(ctx, gate.LeaseTime/2)
		lease, err := store.Renew(call, contended, c, limits)
		cancel()
		if err != nil {
			if ctx.Err() == nil {
				failed = append(failed, err)
			}
			continue
		}
		lease.Until = began.Add(gate.LeaseTime)
		g.Share(lease)
		for {
			now := time.Now()
			pass, _, ok := g.Enter(gate.Conditions{}, now)
			if !ok || g.Lapsed(time.Now()) {
				if ok {
					pass.Done(gate.Unused, 0, now)
				}
				break
			}
			f.add(1)
			attempts.Go(func() {
				_ = streams.Pause(context.Background(), rand.IntN(20)+1)
				f.add(-1)
				pass.Done(gate.Success, time.Millisecond, time.Now())
			})
		}
		_ = streams.Pause(ctx, 20)
	}
	return failed
}

// onThreeNodes lets three instances, each at a server of its own, contend for the limits
// of one key for a while.
func onThreeNodes(t *testing.T, meanwhile func(done <-chan struct{}, js jetstream.JetStream)) {
	t.Helper()
	const bucket = "LEDGERS"
	limits := gate.Settings{MaxConcurrent: 3, PerMinute: 200}
	cluster := testkit.Cluster(t, 3)
	js := testkit.JetStream(t, testkit.Connect(t, cluster.URL()))
	testkit.Eventually(t, time.Minute, "the bucket", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		return ledger.NewNATS(js, bucket, 3).Join(ctx) == nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var f target
	// Ten seconds, or longer on a machine that is too busy for enough attempts.
	enough := make(chan struct{})
	late := time.AfterFunc(10*time.Second, func() {
		defer close(enough)
		for ctx.Err() == nil && f.count() < limits.PerMinute/2 {
			_ = streams.Pause(ctx, 20)
		}
	})
	defer late.Stop()
	var contending sync.WaitGroup
	for n, url := range cluster.URLs() {
		store := ledger.NewNATS(testkit.JetStream(t, testkit.Connect(t, url)), bucket, 3)
		contending.Go(func() {
			for _, err := range contend(ctx, string(rune('a'+n)), store, limits, &f) {
				var api *jetstream.APIError
				// On a busy machine a renewal may contend until it times out.
				if late := errors.Is(err, context.DeadlineExceeded); !late && (streams.IsConflict(err) || errors.As(err, &api) && api.ErrorCode == 10158) {
					t.Errorf("contention is taken for a store that is out of reach: %v", err)
				}
				t.Logf("instance %d: %v", n, err)
			}
		})
	}
	meanwhile(enough, js)
	cancel()
	contending.Wait()
	t.Logf("%d attempts, at most %d at once", f.made, f.most)
	if f.made > limits.PerMinute || f.most > limits.MaxConcurrent || f.made < limits.PerMinute/2 {
		t.Errorf("%d attempts were made, %d of them at once, want from %d to %d and at most %d at once",
			f.made, f.most, limits.PerMinute/2, limits.PerMinute, limits.MaxConcurrent)
	}
}

func TestNATS_LimitsHoldOnACluster(t *testing.T) {
	t.Parallel()
	onThreeNodes(t, func(done <-chan struct{}, _ jetstream.JetStream) { <-done })
}

func TestNATS_LimitsHoldWhileTheLeaderMoves(t *testing.T) {
	t.Parallel()
	onThreeNodes(t, func(done <-chan struct{}, js jetstream.JetStream) {
		if moved := testkit.MoveLeader(t, js, "KV_LEDGERS", 500*time.Millisecond, done); moved == 0 {
			t.Error("the leader never moved")
		}
	})
}
