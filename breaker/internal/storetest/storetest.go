// Package storetest tests that a [breaker.Store] behaves as required. [Run] is the suite that the
// tests of each store run; an [Instance] or a [Fleet] of them serve the tests of what is specific
// to a store.
package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/internal/testkit"
)

// Config describes the store to test.
type Config struct {
	// Open opens one new store n times, for n instances.
	Open func(t testing.TB, n int) []breaker.Store
	// OwnClock reports whether the store has its own clock.
	OwnClock bool
	// Expires reports whether the store forgets unused circuits.
	Expires bool
}

// Run tests a store.
func Run(t *testing.T, c Config) {
	tests := []struct {
		name string
		test func(t *testing.T, stores []breaker.Store)
	}{
		{"histories are linearizable", func(t *testing.T, stores []breaker.Store) { linearizable(t, stores, c.OwnClock) }},
		{"what is changed is loaded and watched", loadsAndWatches},
		{"that a circuit is lost is noticed", noticesThatItLostACircuit},
		{"an open breaker is not forgotten with the store", keepsWhatIsOpenWhenEmptied},
		{"instances share a breaker", sharesABreaker},
		{"probes stay within the bound over all instances", boundsProbes},
		{"the probe of a dead instance is given back", givesBackProbesOfTheDead},
		{"an instance that joins knows what is open", tellsWhoJoinsWhatIsOpen},
		{"totals are complete", keepsTotals},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.test(t, c.Open(t, 3)) })
	}
	if c.Expires {
		t.Run("what is idle and ordinary is forgotten", func(t *testing.T) { forgetsWhatIsIdleAndOrdinary(t, c.Open(t, 1)) })
	}
}

// Handles calls open n times.
func Handles(n int, open func() breaker.Store) []breaker.Store {
	var all []breaker.Store
	for range n {
		all = append(all, open())
	}
	return all
}

// Start is the initial time of tests with a fixed clock.
var Start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Settings are used by most tests: 3 failures in a row, 10 s open, 2 probes, 2 successes.
func Settings() breaker.Settings {
	return breaker.Settings{Threshold: 3, Timeout: 10 * time.Second, HalfOpenMaxRequests: 2, HalfOpenSuccesses: 2, ProbeLease: 5 * time.Second}
}

// loadsAndWatches has one instance watch and another read what a third does.
func loadsAndWatches(t *testing.T, stores []breaker.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	ready, seen := make(chan struct{}, 10), make(chan breaker.Circuit, 100)
	done := make(chan error)
	go func() {
		done <- stores[1].Watch(ctx, func() { ready <- struct{}{} }, func(c breaker.Circuit) { seen <- c })
	}()
	<-ready
	if _, err := stores[0].Apply(ctx, "billing:charge", breaker.Event{Kind: breaker.Hold, By: "me", Operator: "ann@ops", Note: "a \"note\"\n"}, Start, Settings()); err != nil {
		t.Fatal(err)
	}
	if _, err := stores[0].Apply(ctx, "a.b:c d:", breaker.Event{Kind: breaker.Trip, By: "me"}, Start, Settings()); err != nil {
		t.Fatal(err)
	}
	first, second := <-seen, <-seen
	if first.ServiceKey > second.ServiceKey {
		first, second = second, first
	}
	if first.ServiceKey != "a.b:c d:" || !second.Held || second.Note != "a \"note\"\n" {
		t.Errorf("seen were %+v and %+v, want a.b:c d: and one that is held with its note", first, second)
	}
	if o := second.Operated; o.Action != breaker.CauseHeld || o.By != "ann@ops" || o.Note != second.Note || !o.At.Equal(second.ChangedAt) {
		t.Errorf("the operator's act is %+v, want that ann@ops held it when it changed", o)
	}
	all, err := stores[2].Load(ctx)
	if err != nil || len(all) != 2 {
		t.Errorf("loaded %d circuits and error %v, want 2 and none", len(all), err)
	}
	cancel()
	if err := <-done; err == nil {
		t.Error("a watch whose context ended returned no error")
	}
}

// noticesThatItLostACircuit checks that a store that lost data does not take an event for a new
// beginning.
func noticesThatItLostACircuit(t *testing.T, stores []breaker.Store) {
	e := breaker.Event{Kind: breaker.Acquire, By: "me", Probe: "p", Seen: 3}
	r, err := stores[0].Apply(t.Context(), "k:k", e, time.Now(), Settings())
	if err != nil {
		t.Fatal(err)
	}
	if !r.Lost || r.Granted {
		t.Errorf("lost is %v and granted %v, want true and false", r.Lost, r.Granted)
	}
}

// keepsWhatIsOpenWhenEmptied refills an emptied store from an instance that missed the opening of
// the breaker, until its version exceeds that of an instance that knows of it.
func keepsWhatIsOpenWhenEmptied(t *testing.T, stores []breaker.Store) {
	apply := func(e breaker.Event) breaker.Reply {
		t.Helper()
		r, err := stores[0].Apply(t.Context(), "k:k", e, time.Now(), Settings())
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	late := breaker.Circuit{Summary: breaker.Summary{ServiceKey: "k:k"}, Generation: 1, Version: 5}
	open := breaker.Circuit{Summary: breaker.Summary{ServiceKey: "k:k", State: breaker.Open, NextAttemptTime: time.Now().Add(time.Hour)}, Generation: 2, Version: 6}
	r := apply(breaker.Event{Kind: breaker.Rejoin, By: "late", Circuit: &late})
	var one breaker.Tally
	one.Add(breaker.Attempt{Result: breaker.Success, Took: time.Millisecond}, false)
	for range 5 {
		r = apply(breaker.Event{Kind: breaker.Report, By: "late", Generation: 1, Tally: one, Seen: r.Circuit.Version, SeenGeneration: 1})
	}
	if r = apply(breaker.Event{Kind: breaker.Acquire, By: "knowing", Probe: "p", Seen: open.Version, SeenGeneration: open.Generation}); !r.Lost {
		t.Errorf("a store with fewer changes than the instance knows does not report a loss: %+v", r)
	}
	if r = apply(breaker.Event{Kind: breaker.Rejoin, By: "knowing", Circuit: &open}); r.Circuit.State != breaker.Open || r.Circuit.Generation < 2 {
		t.Errorf("the breaker is %v in generation %d, want OPEN in 2 at least", r.Circuit.State, r.Circuit.Generation)
	}
	apply(breaker.Event{Kind: breaker.Reset, By: "operator", Seen: r.Circuit.Version, SeenGeneration: r.Circuit.Generation})
	if r = apply(breaker.Event{Kind: breaker.Rejoin, By: "knowing", Circuit: &open}); r.Circuit.State != breaker.Closed {
		t.Errorf("after a reset the breaker is %v by what an instance remembers, want CLOSED", r.Circuit.State)
	}
}

// forgetsWhatIsIdleAndOrdinary lets circuits expire: a circuit forgotten by store and instance
// begins anew, and one changed by an operator stays.
func forgetsWhatIsIdleAndOrdinary(t *testing.T, stores []breaker.Store) {
	s := stores[0]
	short := Settings()
	short.Window = time.Second
	now := time.Now()
	tell := func(key string, e breaker.Event) breaker.Reply {
		t.Helper()
		e.Idle, e.By, e.Generation = time.Second, "a", 1
		r, err := s.Apply(t.Context(), key, e, now, short)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	success := breaker.Event{Kind: breaker.Report, Tally: breaker.Tally{Requests: 1, Successes: 1}}
	tell("pay:idle", success)
	tell("pay:open", breaker.Event{Kind: breaker.Trip, For: time.Hour})
	tell("pay:reset", breaker.Event{Kind: breaker.Reset, Note: "by hand"})
	keys := []string{"pay:idle", "pay:open", "pay:reset", "pay:never"}
	if read, err := s.Read(t.Context(), keys); err != nil || len(read) != 3 {
		t.Fatalf("the store holds %+v (%v), want three", read, err)
	}
	testkit.Eventually(t, 20*time.Second, "the idle circuit has expired", func() bool {
		read, err := s.Read(t.Context(), keys)
		return err == nil && len(read) == 2
	})
	// This process remembers a version of the circuit, so to it the store has lost data.
	remembered := success
	remembered.Seen = 1
	if r := tell("pay:idle", remembered); !r.Lost {
		t.Errorf("for the forgotten circuit the store replies %+v, want Lost", r)
	}
	s.Forget(keys)
	if r := tell("pay:idle", success); r.Lost || r.Circuit.TotalRequests != 1 || r.Circuit.Version != 1 {
		t.Errorf("a key that comes back has %+v, want a new circuit", r)
	}
	if all, err := s.Load(t.Context()); err != nil || len(all) != 3 {
		t.Errorf("the store holds %+v (%v), want three", all, err)
	}
}
