package pauses_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/pauses"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/scheduler"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// follow returns a follower of the bucket, and the names of the events that it publishes.
func follow(t *testing.T, js jetstream.JetStream, now func() time.Time) (*pauses.Bucket, *pauses.Follower, func() []string) {
	t.Helper()
	bucket, err := pauses.Ensure(t.Context(), js, "", 1)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var told []string
	f := pauses.NewFollower(bucket, pauses.Config{
		InForce: func(*scheduler.Pauses) {}, Leads: func() bool { return true }, Now: now, Log: testkit.Logger(t),
		Publish: func(_ context.Context, what string, m *nats.Msg) error {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, m.Header.Get("Nats-Msg-Id"))
			return nil
		},
	})
	if err := f.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	return bucket, f, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(told)
	}
}

func put(t *testing.T, b *pauses.Bucket, pattern string, until time.Time) {
	t.Helper()
	p, err := events.ParsePattern(pattern)
	if err == nil {
		err = b.Put(t.Context(), events.Pause{Pattern: p, At: time.Now(), Until: until})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func names(list []events.Pause) string {
	var all []string
	for _, p := range list {
		all = append(all, p.Pattern.String())
	}
	return strings.Join(all, " ")
}

func TestFollower_RestoresNothingThatWasResumedInTheNewBucket(t *testing.T) {
	t.Parallel()
	js := testkit.JetStream(t, testkit.Connect(t, testkit.Server(t).ClientURL()))
	bucket, _, _ := follow(t, js, time.Now)
	put(t, bucket, "billing", time.Time{})
	put(t, bucket, "shop", time.Time{})
	_, first, _ := follow(t, js, time.Now)
	_, second, _ := follow(t, js, time.Now)
	if err := js.DeleteKeyValue(t.Context(), "RETRY_PAUSES"); err != nil {
		t.Fatal(err)
	}
	if _, err := pauses.Ensure(t.Context(), js, "", 1); err != nil {
		t.Fatal(err)
	}
	if err := first.Restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	billing, _ := events.ParsePattern("billing")
	if _, err := bucket.Remove(t.Context(), billing); err != nil {
		t.Fatal(err)
	}
	// The other instance knows of the resume only by what it finds in the bucket.
	if err := second.Restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, third, _ := follow(t, js, time.Now)
	if got := names(third.List()); got != "shop" {
		t.Errorf("in the new bucket are %q, want shop", got)
	}
}

func TestFollower_EndsWhatIsOverAndTellsOfItOnce(t *testing.T) {
	t.Parallel()
	js := testkit.JetStream(t, testkit.Connect(t, testkit.Server(t).ClientURL()))
	bucket, _, _ := follow(t, js, time.Now)
	put(t, bucket, "billing", time.Now().Add(-time.Second))
	put(t, bucket, "shop", time.Now().Add(time.Hour))
	_, f, told := follow(t, js, time.Now)
	if got := names(f.List()); got != "shop" {
		t.Errorf("in force are %q, want shop", got)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { f.Run(ctx) })
	defer running.Wait()
	defer stop()
	testkit.Eventually(t, 10*time.Second, "what is over being removed", func() bool {
		kv, err := js.KeyValue(t.Context(), "RETRY_PAUSES")
		if err != nil {
			t.Fatal(err)
		}
		keys, err := kv.Keys(t.Context())
		return err == nil && slices.Equal(keys, []string{"shop"})
	})
	if got := told(); len(got) != 1 || !strings.HasPrefix(got[0], "billing.") || !strings.Contains(got[0], ".expired.") {
		t.Errorf("the events are %v, want one that billing expired", got)
	}
}
