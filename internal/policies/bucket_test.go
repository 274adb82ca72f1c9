package policies_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/policies"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func newBucket(t *testing.T) (*policies.Bucket, jetstream.JetStream) {
	t.Helper()
	js := testkit.JetStream(t, testkit.Connect(t, testkit.Server(t).ClientURL()))
	b, err := policies.Ensure(t.Context(), js, "", 1)
	if err != nil {
		t.Fatalf("making the bucket: %v", err)
	}
	return b, js
}

func apply(t *testing.T, b *policies.Bucket, attempts int, over uint64) policies.Revision {
	t.Helper()
	r, err := b.Apply(t.Context(), "test.yaml", fmt.Appendf(nil, "# %d attempts\nbilling: {maxAttempts: %d}\n", attempts, attempts), over)
	if err != nil {
		t.Fatalf("applying over revision %d: %v", over, err)
	}
	return r
}

func attempts(t *testing.T, r policies.Revision) int {
	t.Helper()
	set, err := r.Parse()
	if err != nil {
		t.Fatalf("parsing revision %d: %v", r.Number, err)
	}
	p := set.Resolve(policy.Query{Service: "billing", Operation: "charge"})
	return p.MaxAttempts
}

func TestBucket_KeepsWhatWasAppliedWithItsHistory(t *testing.T) {
	b, js := newBucket(t)
	if r, err := b.Current(t.Context()); err != nil || r.Number != 0 || r.Removed() {
		t.Errorf("an empty bucket has %+v, %v", r, err)
	}
	first := apply(t, b, 3, 0)
	second := apply(t, b, 4, first.Number)
	again, err := policies.Open(t.Context(), js, "")
	if err != nil {
		t.Fatal(err)
	}
	history, err := again.History(t.Context())
	if err != nil || len(history) != 2 || history[0].Number != second.Number || history[1].Comment() != "3 attempts" || history[0].At.IsZero() {
		t.Fatalf("the history is %+v, %v, want both revisions, the latest first", history, err)
	}
	back, err := again.Rollback(t.Context(), first.Number)
	if err != nil || back.Number <= second.Number || attempts(t, back) != 3 {
		t.Errorf("rolling back gave %+v, %v, want a new revision with 3 attempts", back, err)
	}
	if _, err := again.Rollback(t.Context(), 999); !errors.Is(err, policies.ErrNoRevision) {
		t.Errorf("rolling back to a revision that never was gave %v", err)
	}
}

func TestBucket_RefusesWhatIsNotValidOrNotTheLatest(t *testing.T) {
	b, _ := newBucket(t)
	first := apply(t, b, 3, 0)
	_, err := b.Apply(t.Context(), "bad.yaml", []byte("billing: {maxAttempts: 0}\n"), first.Number)
	if issues := policy.Issues(err); len(issues) != 1 || issues[0].File != "bad.yaml" || issues[0].Key != "billing.maxAttempts" {
		t.Errorf("a bad file gave %v", err)
	}
	apply(t, b, 4, first.Number)
	if _, err := b.Apply(t.Context(), "late.yaml", []byte("billing: {maxAttempts: 5}\n"), first.Number); !errors.Is(err, policies.ErrChanged) {
		t.Errorf("applying over what is not the latest gave %v", err)
	}
	if r, err := b.Current(t.Context()); err != nil || attempts(t, r) != 4 {
		t.Errorf("in force is %+v, %v, want 4 attempts", r, err)
	}
}

func TestBucket_OpeningOneThatIsNotThereSaysSo(t *testing.T) {
	t.Parallel()
	js := testkit.JetStream(t, testkit.Connect(t, testkit.Server(t).ClientURL()))
	if _, err := policies.Open(t.Context(), js, "other"); !errors.Is(err, policies.ErrNoBucket) || !strings.Contains(err.Error(), "OTHER_POLICIES") {
		t.Errorf("opening it gave %v", err)
	}
}

func TestBucket_WatchTellsTheLatestAndEveryLaterRevision(t *testing.T) {
	b, js := newBucket(t)
	first := apply(t, b, 3, 0)
	ctx, cancel := context.WithCancel(t.Context())
	came := make(chan policies.Revision, 10)
	ended := make(chan error, 1)
	go func() { ended <- b.Watch(ctx, func(r policies.Revision) { came <- r }) }()
	if r := <-came; r.Number != first.Number {
		t.Errorf("first came revision %d, want %d", r.Number, first.Number)
	}
	second := apply(t, b, 4, first.Number)
	if r := <-came; r.Number != second.Number || attempts(t, r) != 4 {
		t.Errorf("then came %+v, want revision %d", r, second.Number)
	}
	kv, err := js.KeyValue(ctx, policies.BucketName(""))
	if err == nil {
		err = kv.Delete(ctx, "current")
	}
	if err != nil {
		t.Fatal(err)
	}
	if r := <-came; !r.Removed() {
		t.Errorf("after the policies were taken away came %+v", r)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("watching ended with %v, want nil", err)
	}
}

// TestBucket_OneOfManyAppliesOverARevisionOnACluster applies at three servers at once, so
// that revisions collide that are not agreed on yet.
func TestBucket_OneOfManyAppliesOverARevisionOnACluster(t *testing.T) {
	t.Parallel()
	cluster := testkit.Cluster(t, 3)
	var buckets []*policies.Bucket
	for _, url := range cluster.URLs() {
		js := testkit.JetStream(t, testkit.Connect(t, url))
		testkit.Eventually(t, time.Minute, "the bucket", func() bool {
			b, err := policies.Ensure(t.Context(), js, "", 3)
			if err == nil {
				buckets = append(buckets, b)
			}
			return err == nil
		})
	}
	over := uint64(0)
	for n := range 30 {
		var applied atomic.Uint64
		var count atomic.Int32
		var applying sync.WaitGroup
		for who, b := range buckets {
			applying.Go(func() {
				r, err := b.Apply(t.Context(), "test.yaml", fmt.Appendf(nil, "billing: {maxAttempts: %d}\n", 3+who), over)
				switch {
				case err == nil:
					applied.Store(r.Number)
					count.Add(1)
				case !errors.Is(err, policies.ErrChanged):
					t.Errorf("round %d: %v, want none or %v", n, err, policies.ErrChanged)
				}
			})
		}
		applying.Wait()
		if count.Load() != 1 {
			t.Fatalf("round %d: %d revisions were applied over revision %d, want one", n, count.Load(), over)
		}
		over = applied.Load()
	}
}
