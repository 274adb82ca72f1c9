package breaker

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/redis/go-redis/v9"

	"github.com/rebound-mq/rebound/internal/testkit"
)

// stores are ways to make n handles, as n instances have them, on one store.
var stores = []struct {
	name string
	make func(t testing.TB, n int) []Store
}{
	{"memory", func(_ testing.TB, n int) []Store { return slices.Repeat([]Store{NewMemory()}, n) }},
	{"redis", func(t testing.TB, n int) []Store {
		r := testkit.Redis(t)
		return handles(n, func() Store { return redisStore(t, r.Addr()) })
	}},
	{"nats", func(t testing.TB, n int) []Store {
		s := testkit.Server(t)
		return handles(n, func() Store { return NewNATS(testkit.JetStream(t, testkit.Connect(t, s.ClientURL())), "", 1) })
	}},
}

func handles(n int, make func() Store) []Store {
	var all []Store
	for range n {
		all = append(all, make())
	}
	return all
}

func redisStore(t testing.TB, addr string) *Redis {
	t.Helper()
	client := redis.NewUniversalClient(RedisOptions(&redis.UniversalOptions{Addrs: []string{addr}}))
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Errorf("closing the Redis client: %v", err)
		}
	})
	return NewRedis(client, "")
}

func eachStore(t *testing.T, f func(t *testing.T, stores []Store)) {
	t.Helper()
	for _, s := range stores {
		t.Run(s.name, func(t *testing.T) { f(t, s.make(t, 3)) })
	}
}

// call is the input of one operation of a history.
type call struct {
	event Event
	now   time.Time
}

// model is the state machine, seen through a store. The time of an event is the
// store's, if it has one.
func model(s Settings, clockOfItsOwn bool) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return toRecord(new(NewCircuit("k"))) },
		Step: func(state, input, output any) (bool, any) {
			stored, in, out := state.(record), input.(call), output.(Reply)
			now := in.now
			if clockOfItsOwn {
				now = out.Now
			}
			r := apply(stored.circuit(), in.event, now, s)
			return sameReply(out, r), toRecord(&r.Circuit)
		},
		Equal: func(a, b any) bool { return reflect.DeepEqual(a, b) },
		DescribeOperation: func(input, output any) string {
			in, out := input.(call), output.(Reply)
			return fmt.Sprintf("%s %s %v -> %v gen %d granted %v", in.event.Kind, in.event.Probe, in.event.Result, out.Circuit.State, out.Circuit.Generation, out.Granted)
		},
	}
}

// Histories of eight goroutines on three instances are those of one state
// machine.
func TestStoresAreLinearizable(t *testing.T) {
	s := Settings{Threshold: 3, Timeout: 5 * time.Millisecond, HalfOpenMaxRequests: 2, HalfOpenSuccesses: 2, ProbeLease: time.Second, FailureRate: 0.9, MinimumCalls: 50}
	eachStore(t, func(t *testing.T, stores []Store) {
		_, clockOfItsOwn := stores[0].(*Redis)
		for round := range 5 {
			key := fmt.Sprintf("linear:round%d", round)
			history := record8(t, stores, key, s, uint64(round))
			m := model(s, clockOfItsOwn)
			m.Init = func() any { return toRecord(new(NewCircuit(key))) }
			if result := porcupine.CheckOperationsTimeout(m, history, 30*time.Second); result != porcupine.Ok {
				t.Fatalf("round %d: the history of %d operations is not linearizable: %v", round, len(history), result)
			}
		}
	})
}

// record8 lets eight goroutines do what instances do, and records it.
func record8(t *testing.T, stores []Store, key string, s Settings, seed uint64) []porcupine.Operation {
	t.Helper()
	var mu sync.Mutex
	var history []porcupine.Operation
	began := time.Now()
	var workers sync.WaitGroup
	for id := range 8 {
		workers.Go(func() {
			w := &worker{store: stores[id%len(stores)], key: key, s: s, id: id, rand: rand.New(rand.NewPCG(seed, uint64(id)))}
			for range 40 {
				in := call{event: w.next(), now: time.Now().Truncate(time.Millisecond)}
				called := time.Since(began)
				out, err := w.store.Apply(context.Background(), key, in.event, in.now, s)
				returned := time.Since(began)
				if err != nil {
					t.Errorf("worker %d: %v", id, err)
					return
				}
				w.learn(in.event, out)
				mu.Lock()
				history = append(history, porcupine.Operation{ClientId: id, Input: in, Output: out, Call: int64(called), Return: int64(returned)})
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	return history
}

// worker makes events that fit what it has heard.
type worker struct {
	store  Store
	key    string
	s      Settings
	id, n  int
	rand   *rand.Rand
	heard  Circuit
	probes []Event // the returns of probes that it holds
}

func (w *worker) next() Event {
	w.n++
	if len(w.probes) > 0 && w.rand.IntN(2) == 0 {
		e := w.probes[0]
		w.probes = w.probes[1:]
		return e
	}
	switch w.rand.IntN(12) {
	case 0:
		return Event{Kind: Trip, By: "w", For: time.Millisecond}
	case 1:
		return Event{Kind: Reset, By: "w"}
	case 2, 3, 4, 5, 6:
		return Event{Kind: Acquire, By: "w", Probe: fmt.Sprintf("%d.%d", w.id, w.n), Seen: w.heard.Version}
	default:
		var t Tally
		for range w.rand.IntN(3) + 1 {
			t.Add(Result(w.rand.IntN(3)), time.Millisecond, false)
		}
		return Event{Kind: Report, By: "w", Generation: w.heard.Generation, Tally: t, Seen: w.heard.Version}
	}
}

func (w *worker) learn(e Event, r Reply) {
	w.heard = r.Circuit
	if r.Probe != "" {
		result := Success
		if w.rand.IntN(4) == 0 {
			result = Failure
		}
		w.probes = append(w.probes, Event{Kind: Return, By: "w", Generation: r.Circuit.Generation, Probe: e.Probe, Result: result})
	}
}

func TestStoresLoadAndWatch(t *testing.T) {
	eachStore(t, func(t *testing.T, stores []Store) {
		ctx, cancel := context.WithCancel(t.Context())
		ready, seen := make(chan struct{}, 10), make(chan Circuit, 100)
		done := make(chan error)
		go func() {
			done <- stores[1].Watch(ctx, func() { ready <- struct{}{} }, func(c Circuit) { seen <- c })
		}()
		<-ready
		if _, err := stores[0].Apply(ctx, "billing:charge", Event{Kind: Hold, By: "me", Note: "a \"note\"\n"}, start, settings()); err != nil {
			t.Fatal(err)
		}
		if _, err := stores[0].Apply(ctx, "a.b:c d:", Event{Kind: Trip, By: "me"}, start, settings()); err != nil {
			t.Fatal(err)
		}
		first, second := <-seen, <-seen
		if first.ServiceKey > second.ServiceKey {
			first, second = second, first
		}
		if wrong := want("key", first.ServiceKey, "a.b:c d:") + want("held", second.Held, true) + want("note", second.Note, "a \"note\"\n"); wrong != "" {
			t.Error(wrong)
		}
		all, err := stores[2].Load(ctx)
		if err != nil || len(all) != 2 {
			t.Errorf("loaded %d circuits and error %v, want 2 and none", len(all), err)
		}
		cancel()
		if err := <-done; err == nil {
			t.Error("a watch whose context ended returned no error")
		}
	})
}

// A store that lost what it held does not take an event for a new beginning.
func TestStoresNoticeThatTheyLostACircuit(t *testing.T) {
	eachStore(t, func(t *testing.T, stores []Store) {
		e := Event{Kind: Acquire, By: "me", Probe: "p", Seen: 3}
		r, err := stores[0].Apply(t.Context(), "k:k", e, time.Now(), settings())
		if err != nil {
			t.Fatal(err)
		}
		if !r.Lost || r.Granted {
			t.Errorf("lost is %v and granted %v, want true and false", r.Lost, r.Granted)
		}
	})
}

// An emptied store is filled first by an instance that had not heard that the breaker
// opened, and goes on until its version is beyond that of one that had.
func TestStores_AnOpenBreakerIsNotForgottenWithTheStore(t *testing.T) {
	eachStore(t, func(t *testing.T, stores []Store) {
		apply := func(e Event) Reply {
			t.Helper()
			r, err := stores[0].Apply(t.Context(), "k:k", e, time.Now(), settings())
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		late := Circuit{ServiceKey: "k:k", Generation: 1, Version: 5}
		open := Circuit{ServiceKey: "k:k", Generation: 2, Version: 6, State: Open, NextAttemptTime: time.Now().Add(time.Hour)}
		r := apply(Event{Kind: Rejoin, By: "late", Circuit: &late})
		var one Tally
		one.Add(Success, time.Millisecond, false)
		for range 5 {
			r = apply(Event{Kind: Report, By: "late", Generation: 1, Tally: one, Seen: r.Circuit.Version, SeenGeneration: 1})
		}
		if r = apply(Event{Kind: Acquire, By: "knowing", Probe: "p", Seen: open.Version, SeenGeneration: open.Generation}); !r.Lost {
			t.Errorf("a store that knows fewer changes than the instance has lost none of them: %+v", r)
		}
		if r = apply(Event{Kind: Rejoin, By: "knowing", Circuit: &open}); r.Circuit.State != Open || r.Circuit.Generation < 2 {
			t.Errorf("the breaker is %v in generation %d, want OPEN in 2 at least", r.Circuit.State, r.Circuit.Generation)
		}
		apply(Event{Kind: Reset, By: "operator", Seen: r.Circuit.Version, SeenGeneration: r.Circuit.Generation})
		if r = apply(Event{Kind: Rejoin, By: "knowing", Circuit: &open}); r.Circuit.State != Closed {
			t.Errorf("after a reset the breaker is %v by what an instance remembers, want CLOSED", r.Circuit.State)
		}
	})
}

func TestNATSKeysAreUniqueAndValid(t *testing.T) {
	keys := map[string]string{}
	for _, key := range []string{"a:b", "a.b", "a::b", "a:=3Ab", ":a", "a:", "a b", "ä:ö", "a", "=", "a:b:c"} {
		spelt := natsKey(key)
		if other, ok := keys[spelt]; ok {
			t.Errorf("%q and %q are both spelt %q", key, other, spelt)
		}
		keys[spelt] = key
	}
	if got := natsKey("billing:charge"); got != "billing.charge" {
		t.Errorf("billing:charge is spelt %q, want billing.charge", got)
	}
}
