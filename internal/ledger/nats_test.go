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

func TestABucketThatIsGoneIsMadeAnew(t *testing.T) {
	js := testkit.JetStream(t, testkit.Connect(t, testkit.Server(t).ClientURL()))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	store := ledger.NewNATS(js, "LEDGERS", 1, time.Now)
	if err := store.Join(ctx); err != nil {
		t.Fatal(err)
	}
	limits := gate.Settings{PerMinute: 10}
	first, err := store.Renew(ctx, "pay:charge", gate.Claim{Instance: "a", Held: 10}, limits)
	if err != nil || first.Budget != 10 {
		t.Fatalf("the first lease has a budget of %d and error %v, want 10 and none", first.Budget, err)
	}
	second, err := store.Renew(ctx, "pay:charge", gate.Claim{Instance: "b", Held: 10}, limits)
	if err != nil || second.Budget != 0 {
		t.Fatalf("another instance has a budget of %d and error %v, want 0 and none: all is given", second.Budget, err)
	}

	if err := js.DeleteStream(ctx, "KV_LEDGERS"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 10*time.Second, "a lease from a new bucket", func() bool {
		lease, err := store.Renew(ctx, "pay:charge", gate.Claim{Instance: "b", Held: 10}, limits)
		return err == nil && lease.Budget == 10
	})
}
