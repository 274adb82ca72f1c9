package handlers

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/scheduler/gate"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// askedLedgers notes which leases are asked for, in which order, and which keys are
// forgotten.
type askedLedgers struct {
	asked     chan string
	forgotten []string
}

func (a *askedLedgers) Forget(keys []string) { a.forgotten = append(a.forgotten, keys...) }

func (a *askedLedgers) Renew(_ context.Context, key string, c gate.Claim, _ gate.Settings) (gate.Lease, error) {
	a.asked <- key
	if c.Leaving {
		return gate.Lease{Granted: true, Given: time.Now()}, nil
	}
	return gate.Lease{Granted: true, Given: time.Now(), Budget: 1}, nil
}

// TestLeases_WantedKeyGoesBeforeThoseThatOnlyNeedRenewal has a key wanted that stands
// behind many others already.
func TestLeases_WantedKeyGoesBeforeThoseThatOnlyNeedRenewal(t *testing.T) {
	l := newLeases("a", &askedLedgers{}, time.Now, slog.New(slog.NewTextHandler(io.Discard, nil)))
	for i := range 100 {
		key := fmt.Sprintf("pay:op%d", i)
		l.keys[key] = &leaseKey{place: inStale}
		l.stale = append(l.stale, key)
	}
	l.turn = 1 // the first is that of a stale one
	l.want("pay:op99")
	if key, ok := l.next(); !ok || key != "pay:op99" {
		t.Errorf("the first key is %s, want pay:op99", key)
	}
	l.done("pay:op99")
	seen := map[string]bool{}
	for len(l.stale) > 1 {
		key, _ := l.next()
		if seen[key] || key == "pay:op99" {
			t.Errorf("key %s comes twice", key)
		}
		seen[key] = true
		l.done(key)
	}
	if len(seen) != 99 {
		t.Errorf("%d others come, want 99", len(seen))
	}
}

func TestLeases_StaleKeysAreNotStarved(t *testing.T) {
	l := newLeases("a", &askedLedgers{}, time.Now, slog.New(slog.NewTextHandler(io.Discard, nil)))
	l.keys["pay:stale"] = &leaseKey{place: inStale}
	l.stale = append(l.stale, "pay:stale")
	l.turn = 1
	for i := range staleTurn {
		l.want(fmt.Sprintf("pay:op%d", i))
	}
	for range staleTurn {
		if key, _ := l.next(); key == "pay:stale" {
			return
		}
	}
	t.Errorf("in %d turns the stale key did not come", staleTurn)
}

func TestLeases_StoreForgetsTheKeysThatAreOver(t *testing.T) {
	store := &askedLedgers{}
	l := newLeases("a", store, time.Now, slog.New(slog.DiscardHandler))
	l.gates = scheduler.NewGates(breaker.NewGroup(breaker.Config{}), scheduler.GatesConfig{Lease: func(string) {}})
	policy := policy.Builtin().Resolve(policy.Query{Service: "pay", Operation: "charge"})
	policy.RetryBudgetPerMinute = 10
	l.keys["pay:charge"], l.keys["pay:gone"] = &leaseKey{}, &leaseKey{}
	l.gates.Room(&policy, "pay", "charge", 0, time.Now())
	l.look(time.Now())
	if !slices.Equal(store.forgotten, []string{"pay:gone"}) || len(l.keys) != 1 {
		t.Errorf("the store has forgotten %v and %d keys are left, want pay:gone forgotten and the one in use left", store.forgotten, len(l.keys))
	}
}

func TestLeases_WhatIsLeftIsReturnedAtTheEnd(t *testing.T) {
	store := &askedLedgers{asked: make(chan string, 10)}
	l := newLeases("a", store, time.Now, slog.New(slog.NewTextHandler(io.Discard, nil)))
	l.gates = scheduler.NewGates(breaker.NewGroup(breaker.Config{}), scheduler.GatesConfig{Lease: l.want})
	policy := policy.Builtin().Resolve(policy.Query{Service: "pay", Operation: "charge"})
	policy.RetryBudgetPerMinute = 10
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.run(ctx)
	}()
	l.gates.Room(&policy, "pay", "charge", 0, time.Now())
	<-store.asked
	testkit.Eventually(t, 20*time.Second, "the lease having come", func() bool { return l.gates.Owes("pay:charge") })
	cancel()
	<-done
	if n := len(store.asked); n == 0 || l.gates.Owes("pay:charge") {
		t.Errorf("%d leases were returned and something is owed: %t, want what is left returned", n, l.gates.Owes("pay:charge"))
	}
}
