package adoption_test

import (
	"context"
	"errors"
	"math/bits"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/adoption"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func newBucket(t *testing.T) (*adoption.Bucket, jetstream.JetStream) {
	t.Helper()
	js := testkit.JetStream(t, testkit.Connect(t, testkit.Server(t).ClientURL()))
	b, err := adoption.Ensure(t.Context(), js, "", 1)
	if err != nil {
		t.Fatal(err)
	}
	return b, js
}

func put(t *testing.T, b *adoption.Bucket, a adoption.Adoption) {
	t.Helper()
	if err := b.Put(t.Context(), a); err != nil {
		t.Fatal(err)
	}
}

func TestBucket_KeepsAdoptions(t *testing.T) {
	b, js := newBucket(t)
	if list, err := b.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("an empty bucket lists %v, %v", list, err)
	}
	odd := worker()
	odd.Stream, odd.Consumer = "ORD ERS:é", "wor=ker$"
	put(t, b, worker())
	put(t, b, odd)
	again, err := adoption.Open(t.Context(), js, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []adoption.Adoption{worker(), odd} {
		if got, err := again.Get(t.Context(), want.Stream, want.Consumer); err != nil || got != want {
			t.Errorf("kept is %+v, %v, want %+v", got, err, want)
		}
	}
	changed := worker()
	changed.Target = "another.target"
	put(t, b, changed)
	if err := again.Remove(t.Context(), odd.Stream, odd.Consumer); err != nil {
		t.Fatal(err)
	}
	if list, err := b.List(t.Context()); err != nil || len(list) != 1 || list[0] != changed {
		t.Errorf("listed is %+v, %v, want the changed one alone", list, err)
	}
	if err := again.Remove(t.Context(), odd.Stream, odd.Consumer); !errors.Is(err, adoption.ErrNotAdopted) {
		t.Errorf("removing it twice gives %v", err)
	}
	if _, err := again.Get(t.Context(), odd.Stream, odd.Consumer); !errors.Is(err, adoption.ErrNotAdopted) {
		t.Errorf("getting what was removed gives %v", err)
	}
}

func TestBucket_OpeningOneThatIsNotThereSaysSo(t *testing.T) {
	t.Parallel()
	js := testkit.JetStream(t, testkit.Connect(t, testkit.Server(t).ClientURL()))
	if _, err := adoption.Open(t.Context(), js, ""); !errors.Is(err, adoption.ErrNoBucket) {
		t.Errorf("opening it gives %v", err)
	}
}

func TestBucket_WatchTellsEveryChange(t *testing.T) {
	b, _ := newBucket(t)
	put(t, b, worker())
	ctx, cancel := context.WithCancel(t.Context())
	came := make(chan []adoption.Adoption, 10)
	ended := make(chan error, 1)
	go func() { ended <- b.Watch(ctx, func(l []adoption.Adoption) { came <- l }) }()
	if l := <-came; len(l) != 1 || l[0] != worker() {
		t.Errorf("first came %+v", l)
	}
	other := worker()
	other.Consumer = "another"
	put(t, b, other)
	if l := <-came; len(l) != 2 || l[0] != other {
		t.Errorf("then came %+v, want both in order", l)
	}
	if err := b.Remove(t.Context(), "ORDERS", "worker"); err != nil {
		t.Fatal(err)
	}
	if l := <-came; len(l) != 1 || l[0] != other {
		t.Errorf("after the removal came %+v", l)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("watching ended with %v", err)
	}
}

func TestLedger_MessageBelongsToTheFirstThatClaimsIt(t *testing.T) {
	_, js := newBucket(t)
	l, err := adoption.EnsureLedger(t.Context(), js, "", 1)
	if err != nil {
		t.Fatal(err)
	}
	message := adoption.Message("/jetstream/ORDERS/worker", "1")
	if claimed, err := l.Claimed(t.Context(), message); err != nil || claimed {
		t.Errorf("before the first claim it is %v, %v", claimed, err)
	}
	for _, c := range []struct {
		claimant    string
		mine, first bool
	}{{"a", true, true}, {"b", false, false}, {"a", true, false}} {
		mine, first, err := l.Claim(t.Context(), message, c.claimant)
		if err != nil || mine != c.mine || first != c.first {
			t.Errorf("a claim of %s gives %v, %v, %v, want %v and %v", c.claimant, mine, first, err, c.mine, c.first)
		}
	}
	if claimed, err := l.Claimed(t.Context(), message); err != nil || !claimed {
		t.Errorf("after it it is %v, %v", claimed, err)
	}
	if mine, first, err := l.Claim(t.Context(), adoption.Message("/jetstream/ORDERS/worker", "2"), "b"); err != nil || !mine || !first {
		t.Errorf("another message is claimed with %v, %v, %v", mine, first, err)
	}
}

// TestLedger_OneOfManyClaimsAMessageOnACluster claims each message at three servers at
// once, so that claims collide that are not agreed on yet.
func TestLedger_OneOfManyClaimsAMessageOnACluster(t *testing.T) {
	t.Parallel()
	cluster := testkit.Cluster(t, 3)
	var ledgers []*adoption.Ledger
	for _, url := range cluster.URLs() {
		js := testkit.JetStream(t, testkit.Connect(t, url))
		testkit.Eventually(t, time.Minute, "the ledger", func() bool {
			l, err := adoption.EnsureLedger(t.Context(), js, "", 3)
			if err == nil {
				ledgers = append(ledgers, l)
			}
			return err == nil
		})
	}
	for n := range 100 {
		message := adoption.Message("source", strconv.Itoa(n))
		var owners, first atomic.Int32
		var claiming sync.WaitGroup
		for who, l := range ledgers {
			for range 2 { // a claimant may come twice
				claiming.Go(func() {
					mine, fresh, err := l.Claim(t.Context(), message, strconv.Itoa(who))
					if err != nil {
						t.Errorf("claiming message %d: %v", n, err)
					}
					if mine {
						owners.Or(1 << who)
					}
					if fresh {
						first.Add(1)
					}
				})
			}
		}
		claiming.Wait()
		if bits.OnesCount32(uint32(owners.Load())) != 1 || first.Load() > 1 {
			t.Fatalf("message %d has owners %b, %d of them the first, want one and at most one", n, owners.Load(), first.Load())
		}
	}
}
