package natsstore

import (
	"slices"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/breaker/internal/storetest"
	"github.com/rebound-mq/rebound/internal/embedded"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var store = storetest.Config{Expires: true, Open: func(t testing.TB, n int) []breaker.Store {
	s := testkit.Server(t)
	return storetest.Handles(n, func() breaker.Store {
		return New(testkit.JetStream(t, testkit.Connect(t, s.ClientURL())), "", 1)
	})
}}

func TestStore_DoesWhatEveryStoreMust(t *testing.T) { storetest.Run(t, store) }

func BenchmarkStore_Change(b *testing.B) { storetest.BenchmarkChange(b, store) }

func TestStore_RestartedServerIsJoinedAgain(t *testing.T) {
	t.Parallel()
	dir, port := t.TempDir(), embedded.RandomPort
	serve := func() *testkit.NATSServer {
		return testkit.Server(t, func(o *embedded.Options) { o.StoreDir, o.Port = dir, port })
	}
	s := serve()
	port = s.Port()
	all := storetest.Fleet(t, storetest.Handles(3, func() breaker.Store {
		return New(testkit.JetStream(t, testkit.Connect(t, s.ClientURL())), "", 1)
	}), storetest.Settings())
	s.Shutdown()
	for _, i := range all {
		storetest.Alone(t, i)
	}
	all[0].Fail(t, 3)
	if all[0].State() != breaker.Open || all[1].State() != breaker.Closed {
		t.Fatalf("one instance is %v and another %v, want OPEN and CLOSED", all[0].State(), all[1].State())
	}
	serve()
	// The connections reconnect by themselves.
	testkit.Eventually(t, 10*time.Second, "all instances share the store and are OPEN", func() bool {
		return !slices.ContainsFunc(all, func(i *storetest.Instance) bool { return !i.Status().Shared || i.State() != breaker.Open })
	})
	if _, err := all[1].Reset(t.Context(), storetest.Key, breaker.Operator{}); err != nil {
		t.Fatal(err)
	}
	storetest.Eventually(t, all, 5*time.Second, breaker.Closed)
}
