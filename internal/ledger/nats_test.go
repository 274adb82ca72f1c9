package ledger_test

import (
	"context"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/internal/ledger"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestNATS_BucketThatIsGoneIsMadeAnew(t *testing.T) {
	t.Parallel()
	js := testkit.JetStream(t, testkit.Connect(t, testkit.Server(t).ClientURL()))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	store := ledger.NewNATS(js, "LEDGERS", 1)
	if err := store.Join(ctx); err != nil {
		t.Fatal(err)
	}
	limits := gate.Settings{PerMinute: 10}
	first, err := store.Renew(ctx, "pay:charge", gate.Claim{Instance: "a", Waiting: 10}, limits)
	if err != nil || first.Budget != 10 {
		t.Fatalf("the first lease has a budget of %d and error %v, want 10 and none", first.Budget, err)
	}
	second, err := store.Renew(ctx, "pay:charge", gate.Claim{Instance: "b", Waiting: 10}, limits)
	if err != nil || second.Budget != 0 {
		t.Fatalf("another instance has a budget of %d and error %v, want 0 and none: all is given", second.Budget, err)
	}

	if err := js.DeleteStream(ctx, "KV_LEDGERS"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 10*time.Second, "a lease from a new bucket", func() bool {
		lease, err := store.Renew(ctx, "pay:charge", gate.Claim{Instance: "b", Waiting: 10}, limits)
		return err == nil && lease.Budget == 10
	})
}

// TestNATS_LedgerOfAKeyThatIsLeftExpires renews a lease of concurrency only: once it has
// run out the ledger is empty.
func TestNATS_LedgerOfAKeyThatIsLeftExpires(t *testing.T) {
	t.Parallel()
	js := testkit.JetStream(t, testkit.Connect(t, testkit.Server(t).ClientURL()))
	store := ledger.NewNATS(js, "LEDGERS", 1)
	limits := gate.Settings{MaxConcurrent: 10}
	for _, claim := range []gate.Claim{{Instance: "a", InFlight: 1}, {Instance: "a", Leaving: true}} {
		if _, err := store.Renew(t.Context(), "pay:charge", claim, limits); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, time.Minute, "the ledger has expired", func() bool {
		stream, err := js.Stream(t.Context(), "KV_LEDGERS")
		return err == nil && stream.CachedInfo().State.Msgs == 0
	})
	lease, err := store.Renew(t.Context(), "pay:charge", gate.Claim{Instance: "b", InFlight: 1}, limits)
	if err != nil || lease.Concurrent != 10 {
		t.Errorf("a lease of the key that comes back is %+v (%v), want all 10", lease, err)
	}
}

func TestNATS_RenewalIsOneWriteWhileNobodyElseWrites(t *testing.T) {
	t.Parallel()
	nc := testkit.Connect(t, testkit.Server(t).ClientURL())
	store := ledger.NewNATS(testkit.JetStream(t, nc), "LEDGERS", 1)
	if err := store.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	limits, before := gate.Settings{PerMinute: 100}, nc.Stats().OutMsgs
	for range 20 {
		if _, err := store.Renew(t.Context(), "pay:charge", gate.Claim{Instance: "a", Waiting: 1}, limits); err != nil {
			t.Fatal(err)
		}
	}
	if n := nc.Stats().OutMsgs - before; n < 20 || n > 21 {
		t.Errorf("20 renewals are %d requests, want 20, and one for the time of the server", n)
	}
}
