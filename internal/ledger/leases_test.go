package ledger

import (
	"context"
	"fmt"
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

// askedLedgers records which leases are requested, in order, and which keys are
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

// leasesOf returns leases from store; want is called with the keys that need one.
func leasesOf(queue *Queue, store Store, want func(key string)) *Leases {
	gates := scheduler.NewGates(breaker.NewGroup(breaker.Config{}), scheduler.GatesConfig{Lease: want})
	return NewLeases(queue, gates, LeasesConfig{Instance: "a", Store: store, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
}

// TestQueue_WantedKeyGoesBeforeThoseThatOnlyNeedRenewal wants a key that is already queued
// behind many others.
func TestQueue_WantedKeyGoesBeforeThoseThatOnlyNeedRenewal(t *testing.T) {
	q := NewQueue()
	for i := range 100 {
		key := fmt.Sprintf("pay:op%d", i)
		q.keys[key] = &queueKey{place: inStale}
		q.stale = append(q.stale, key)
	}
	q.turn = 1 // the first turn is a stale one's
	q.Want("pay:op99")
	if key, ok := q.next(); !ok || key != "pay:op99" {
		t.Errorf("the first key is %s, want pay:op99", key)
	}
	q.done("pay:op99")
	seen := map[string]bool{}
	for len(q.stale) > 1 {
		key, _ := q.next()
		if seen[key] || key == "pay:op99" {
			t.Errorf("key %s comes twice", key)
		}
		seen[key] = true
		q.done(key)
	}
	if len(seen) != 99 {
		t.Errorf("%d others come, want 99", len(seen))
	}
}

func TestQueue_StaleKeysAreNotStarved(t *testing.T) {
	q := NewQueue()
	q.keys["pay:stale"] = &queueKey{place: inStale}
	q.stale = append(q.stale, "pay:stale")
	q.turn = 1
	for i := range staleTurn {
		q.Want(fmt.Sprintf("pay:op%d", i))
	}
	for range staleTurn {
		if key, _ := q.next(); key == "pay:stale" {
			return
		}
	}
	t.Errorf("in %d turns the stale key did not come", staleTurn)
}

func TestLeases_StoreForgetsTheKeysThatAreOver(t *testing.T) {
	store := &askedLedgers{}
	queue := NewQueue()
	l := leasesOf(queue, store, func(string) {})
	p := policy.Builtin().Resolve(policy.Query{Service: "pay", Operation: "charge"})
	p.RetryBudgetPerMinute = 10
	queue.keys["pay:charge"], queue.keys["pay:gone"] = &queueKey{}, &queueKey{}
	l.gates.(*scheduler.Gates).Quota(&p, "pay", "charge", 0, time.Now())
	l.look(time.Now())
	if !slices.Equal(store.forgotten, []string{"pay:gone"}) || len(queue.keys) != 1 {
		t.Errorf("the store has forgotten %v and %d keys are left, want pay:gone forgotten and the one in use left", store.forgotten, len(queue.keys))
	}
}

func TestLeases_WhatIsLeftIsReturnedAtTheEnd(t *testing.T) {
	t.Parallel()
	store := &askedLedgers{asked: make(chan string, 10)}
	queue := NewQueue()
	l := leasesOf(queue, store, queue.Want)
	p := policy.Builtin().Resolve(policy.Query{Service: "pay", Operation: "charge"})
	p.RetryBudgetPerMinute = 10
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.Run(ctx)
	}()
	l.gates.(*scheduler.Gates).Quota(&p, "pay", "charge", 0, time.Now())
	<-store.asked
	testkit.Eventually(t, 20*time.Second, "the lease having come", func() bool { return l.gates.Unreported("pay:charge") })
	cancel()
	<-done
	if n := len(store.asked); n == 0 || l.gates.Unreported("pay:charge") {
		t.Errorf("%d leases were returned and something is unreported: %t, want what is left returned", n, l.gates.Unreported("pay:charge"))
	}
}
