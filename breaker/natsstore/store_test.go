package natsstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

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
	dir, port := t.TempDir(), testkit.Port(t)
	serve := func() *testkit.NATSServer {
		return testkit.Server(t, func(o *embedded.Options) { o.StoreDir, o.Port = dir, port })
	}
	s := serve()
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
	storetest.Eventually(t, all, breaker.Closed)
}

func TestStore_WatchEndsWheneverItsContextDoes(t *testing.T) {
	t.Parallel()
	store := New(testkit.JetStream(t, testkit.Connect(t, testkit.Server(t).ClientURL())), "", 1)
	watch := func(ctx context.Context, ready func()) {
		_ = store.Watch(ctx, ready, func(breaker.Circuit) {}) // its context ends
	}
	var usual time.Duration // until a watch is ready
	for range 10 {
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		watch(ctx, func() {
			usual = time.Since(began)
			cancel()
		})
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range 300 { // a few of them end just when the server has answered
			ctx, cancel := context.WithTimeout(t.Context(), usual/2+rand.N(usual))
			watch(ctx, func() {})
			cancel()
		}
	}()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("a watch goes on after its context has ended")
	}
}

func TestExisting_SendsTheCircuitsInUseAndMakesNoBucket(t *testing.T) {
	t.Parallel()
	js := testkit.JetStream(t, testkit.Connect(t, testkit.Server(t).ClientURL()))
	few, many := []string{"a:x", "b:x"}, []string{"a:x"}
	for i := range MostKeys {
		many = append(many, fmt.Sprintf("unused:%d", i))
	}
	if _, err := Existing(js, "B", func() []string { return few }).Load(t.Context()); !errors.Is(err, jetstream.ErrBucketNotFound) {
		t.Errorf("without the bucket loading gives %v, want ErrBucketNotFound", err)
	}
	if _, err := js.KeyValue(t.Context(), "B"); !errors.Is(err, jetstream.ErrBucketNotFound) {
		t.Errorf("the bucket is there, %v, want it to be left to others to make", err)
	}
	all := New(js, "B", 1)
	for _, key := range []string{"a:x", "b:x", "c:x"} {
		if _, err := all.Apply(t.Context(), key, breaker.Event{Kind: breaker.Hold}, time.Now(), breaker.Settings{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		keys []string
		want string
	}{{few, "a:x b:x"}, {nil, ""}, {many, "a:x b:x c:x"}} {
		circuits, err := Existing(js, "B", func() []string { return c.keys }).Load(t.Context())
		var got []string
		for _, one := range circuits {
			got = append(got, one.ServiceKey)
		}
		slices.Sort(got)
		if strings.Join(got, " ") != c.want || err != nil {
			t.Errorf("with %d keys in use %v are loaded, %v, want %q", len(c.keys), got, err, c.want)
		}
	}
}
