package ledger

import (
	"fmt"
	"testing"

	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

func TestNATS_KeyThatIsForgottenIsNotRemembered(t *testing.T) {
	t.Parallel()
	store := NewNATS(testkit.JetStream(t, testkit.Connect(t, testkit.Server(t).ClientURL())), "LEDGERS", 1)
	limits := gate.Settings{PerMinute: 100}
	renew := func(key string, c gate.Claim) gate.Lease {
		t.Helper()
		lease, err := store.Renew(t.Context(), key, c, limits)
		if err != nil {
			t.Fatal(err)
		}
		return lease
	}
	for i := range 50 {
		key := fmt.Sprintf("pay:op%d", i)
		lease := renew(key, gate.Claim{Instance: "a", Waiting: 1})
		if i > 0 {
			renew(key, gate.Claim{Instance: "a", Heard: lease.Given, Unused: lease.Budget - 1, Seen: lease.Seen, Leaving: true})
			store.Forget([]string{key})
		}
	}
	if n := len(store.seen); n != 1 {
		t.Errorf("the versions of %d keys are kept, want that of the one in use", n)
	}
	lease := renew("pay:op7", gate.Claim{Instance: "a", Waiting: 1})
	if n := lease.Budget + lease.Left; n != 99 {
		t.Errorf("a key that comes back has %d of its budget left, want 99", n)
	}
}
