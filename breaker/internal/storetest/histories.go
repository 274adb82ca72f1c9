package storetest

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/rebound-mq/rebound/breaker"
)

// call is the input of one operation of a history.
type call struct {
	event breaker.Event
	now   time.Time
}

// model is the state machine of one key as seen through a store. Its states are circuits as
// stored. An event is timed by the store's clock, if it has one.
func model(key string, s breaker.Settings, ownClock bool) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return stored(breaker.NewCircuit(key)) },
		Step: func(state, input, output any) (bool, any) {
			in, out := input.(call), output.(breaker.Reply)
			c, err := breaker.Decode([]byte(state.(string)))
			if err != nil {
				panic(err) // stored returned it
			}
			now := in.now
			if ownClock {
				now = out.Now
			}
			r := breaker.Apply(c, in.event, now, s)
			return SameReply(out, r), stored(r.Circuit)
		},
		Equal: func(a, b any) bool { return a == b },
		DescribeOperation: func(input, output any) string {
			in, out := input.(call), output.(breaker.Reply)
			return fmt.Sprintf("%s %s %v -> %v gen %d granted %v", in.event.Kind, in.event.Probe, in.event.Result, out.Circuit.State, out.Circuit.Generation, out.Granted)
		},
	}
}

// stored returns c as the stores keep it.
func stored(c breaker.Circuit) string {
	data, err := breaker.Encode(&c)
	if err != nil {
		panic(err) // JSON can represent every circuit
	}
	return string(data)
}

// SameReply compares replies with the precision of the stores, milliseconds. Averages may differ
// by rounding.
func SameReply(a, b breaker.Reply) bool {
	ca, cb := a.Circuit, b.Circuit
	near := math.Abs(ca.AverageResponseTime-cb.AverageResponseTime) <= 1e-12*math.Abs(cb.AverageResponseTime)+1e-9
	ca.AverageResponseTime, cb.AverageResponseTime = 0, 0
	return near && stored(ca) == stored(cb) && millis(a.Next) == millis(b.Next) &&
		a.Lost == b.Lost && a.Granted == b.Granted && a.Probe == b.Probe &&
		a.Written == b.Written && a.Changed == b.Changed && (a.Lost || a.From == b.From)
}

// millis returns t as the stores keep it.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// linearizable checks that histories of eight goroutines on three instances are linearizable.
func linearizable(t *testing.T, stores []breaker.Store, ownClock bool) {
	s := breaker.Settings{Threshold: 3, Timeout: 5 * time.Millisecond, HalfOpenMaxRequests: 2, HalfOpenSuccesses: 2, ProbeLease: time.Second, FailureRate: 0.9, MinimumCalls: 50}
	for round := range 5 {
		key := fmt.Sprintf("linear:round%d", round)
		history := record8(t, stores, key, s, uint64(round))
		if result := porcupine.CheckOperationsTimeout(model(key, s, ownClock), history, 30*time.Second); result != porcupine.Ok {
			t.Fatalf("round %d: the history of %d operations is not linearizable: %v", round, len(history), result)
		}
	}
}

// record8 records eight goroutines that act like instances.
func record8(t *testing.T, stores []breaker.Store, key string, s breaker.Settings, seed uint64) []porcupine.Operation {
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

// worker makes events that fit what it has learned.
type worker struct {
	store  breaker.Store
	key    string
	s      breaker.Settings
	id, n  int
	rand   *rand.Rand
	heard  breaker.Circuit
	probes []breaker.Event // returns of the probes that it holds
}

func (w *worker) next() breaker.Event {
	w.n++
	if len(w.probes) > 0 && w.rand.IntN(2) == 0 {
		e := w.probes[0]
		w.probes = w.probes[1:]
		return e
	}
	switch w.rand.IntN(12) {
	case 0:
		return breaker.Event{Kind: breaker.Trip, By: "w", For: time.Millisecond}
	case 1:
		return breaker.Event{Kind: breaker.Reset, By: "w"}
	case 2, 3, 4, 5, 6:
		return breaker.Event{Kind: breaker.Acquire, By: "w", Probe: fmt.Sprintf("%d.%d", w.id, w.n), Seen: w.heard.Version}
	default:
		var t breaker.Tally
		for range w.rand.IntN(3) + 1 {
			t.Add(breaker.Attempt{Result: breaker.Result(w.rand.IntN(3)), Took: time.Millisecond}, false)
		}
		return breaker.Event{Kind: breaker.Report, By: "w", Generation: w.heard.Generation, Tally: t, Seen: w.heard.Version}
	}
}

func (w *worker) learn(e breaker.Event, r breaker.Reply) {
	w.heard = r.Circuit
	if r.Probe != "" {
		result := breaker.Success
		if w.rand.IntN(4) == 0 {
			result = breaker.Failure
		}
		w.probes = append(w.probes, breaker.Event{Kind: breaker.Return, By: "w", Generation: r.Circuit.Generation, Probe: e.Probe, Result: result})
	}
}
