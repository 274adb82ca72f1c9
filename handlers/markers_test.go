package handlers_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/schemas"
)

// marked reports whether the bucket of the keys with lanes names a key.
func (r *rig) marked(name string) bool {
	r.t.Helper()
	return r.count("KV_RETRY_LANES", "$KV.RETRY_LANES."+name) == 1
}

// holdSome makes n operations be held by a breaker that is kept open.
func (r *rig) holdSome(n int, prefix string) {
	r.t.Helper()
	for i := range n {
		testkit.Eventually(r.t, 30*time.Second, "a submission being stored", func() bool {
			return r.trySubmit("retry.submit.pay.charge", fmt.Sprintf("%s-%d", prefix, i))
		})
	}
}

func (r *rig) awaitHeld(n int) {
	r.t.Helper()
	testkit.Eventually(r.t, 2*time.Minute, fmt.Sprintf("%d being held", n), func() bool { return r.count("RETRY", "retry.held.>") == n })
}

func (r *rig) deleteBucket() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := r.js.DeleteKeyValue(ctx, "RETRY_LANES"); err != nil && !errors.Is(err, jetstream.ErrBucketNotFound) {
		r.t.Fatal(err)
	}
}

func TestLanes_BucketThatIsRemovedIsMadeAnewAndWhatIsHeldIsMarked(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T) (*rig, handlers.Config){
		"one server": func(t *testing.T) (*rig, handlers.Config) { return newRig(t), handlers.Config{} },
		"a cluster": func(t *testing.T) (*rig, handlers.Config) {
			return connect(t, testkit.Cluster(t, 3).URL()), handlers.Config{Limits: streams.Limits{Replicas: 3}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, config := start(t)
			config.Policies, config.Lease = policySet(t, guarded), 2*time.Second
			for range 3 {
				r.start(config)
			}
			_, _ = r.switched("pay.charge")
			r.hold("pay:charge")
			r.holdSome(10, "before")
			r.awaitHeld(10)
			r.deleteBucket()
			r.holdSome(10, "after")
			r.awaitHeld(20)
			testkit.Eventually(t, 30*time.Second, "the key being marked anew", func() bool { return r.marked("pay.charge") })
			r.act("reset", schemas.BreakerAct{Key: "pay:charge"})
			r.awaitOutcomes(20, time.Minute)
			r.awaitEmpty()
		})
	}
}

// TestLanes_WhatNoBucketNamesIsFoundInTheLanes loses the bucket together with all
// instances that know its contents.
func TestLanes_WhatNoBucketNamesIsFoundInTheLanes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first := r.start(handlers.Config{Policies: policySet(t, guarded)})
	_, _ = r.switched("pay.charge")
	r.act("hold", schemas.BreakerAct{Key: "pay:charge"})
	r.holdSome(10, "held")
	r.awaitHeld(10)
	if err := first.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.deleteBucket()
	r.start(handlers.Config{Policies: policySet(t, guarded)})
	testkit.Eventually(t, 10*time.Second, "the key being marked", func() bool { return r.marked("pay.charge") })
	r.act("reset", schemas.BreakerAct{Key: "pay:charge"})
	r.awaitOutcomes(10, 20*time.Second)
	r.awaitEmpty()
}

func TestLanes_MarkerGoesWithTheLastOperationAndComesBackWithTheNext(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	config := handlers.Config{Policies: policySet(t, guarded), ForgetIdleAfter: 2 * time.Second}
	r.start(config)
	r.start(config)
	_, _ = r.switched("pay.charge")
	for round := range 3 {
		r.hold("pay:charge")
		r.holdSome(5, fmt.Sprint("round-", round))
		r.awaitHeld(5)
		if !r.marked("pay.charge") {
			t.Fatal("a key that has lanes is not marked")
		}
		// While anything is held the marker stays.
		<-time.After(5 * time.Second)
		if !r.marked("pay.charge") {
			t.Fatal("the marker of a key that has lanes is gone")
		}
		r.act("reset", schemas.BreakerAct{Key: "pay:charge"})
		r.awaitOutcomes(5*(round+1), time.Minute)
		testkit.Eventually(t, 30*time.Second, "the marker being removed", func() bool { return r.count("KV_RETRY_LANES", ">") == 0 })
	}
}

// TestLanes_KeyThatHoldsNothingIsForgottenThoughItsGateIsShut lets a key out and opens its breaker
// again at once, for good.
func TestLanes_KeyThatHoldsNothingIsForgottenThoughItsGateIsShut(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	config := handlers.Config{Policies: policySet(t, guarded+"  maxConcurrentRetries: 10\n"), ForgetIdleAfter: 2 * time.Second}
	r.start(config)
	r.start(config)
	_, _ = r.switched("pay.charge")
	r.hold("pay:charge")
	r.holdSome(5, "held")
	r.awaitHeld(5)
	r.act("reset", schemas.BreakerAct{Key: "pay:charge"})
	r.awaitOutcomes(5, time.Minute)
	r.act("hold", schemas.BreakerAct{Key: "pay:charge"})
	testkit.Eventually(t, time.Minute, "the marker being removed", func() bool { return !r.marked("pay.charge") })
	testkit.Eventually(t, time.Minute, "the ledger of its limits having expired", func() bool { return r.stored("KV_RETRY_LEDGERS") == 0 })
}

// TestLanes_WhatIsHeldDrainsThoughAnEarlyReleaseWasUnderWay has a target that fails at
// random, which turns the governor on. After a quiet time an outage opens the breaker, and
// the target recovers. Nothing may still wait for the earlier early release.
func TestLanes_WhatIsHeldDrainsThoughAnEarlyReleaseWasUnderWay(t *testing.T) {
	t.Parallel()
	for name, store := range stores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, instances := range []int{1, 2} {
				r := newRig(t)
				c := store()
				c.Policies = policySet(t, `
default:
  maxAttempts: 100
  baseDelay: 100ms
  maxDelay: 200ms
  jitterType: none
  attemptTimeout: 20s
  enableCircuitBreaker: true
  circuitBreakerThreshold: 5
  circuitBreakerTimeout: 1s
`)
				for range instances {
					r.start(c)
				}
				r.failHalfThenAll(c)
			}
		})
	}
}

func (r *rig) failHalfThenAll(c handlers.Config) {
	r.t.Helper()
	began := time.Now()
	r.target("pay.charge", func(call int, _ micro.Request) (string, string, micro.Headers) {
		since := time.Since(began)
		if since < 3*time.Second && call%2 == 0 || since > 6*time.Second && since < 10*time.Second {
			return "503", "down", nil
		}
		return "", "", nil
	})
	n := 0
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for now := range tick.C {
		since := now.Sub(began)
		if since < 3*time.Second || since > 6*time.Second {
			r.submit("retry.submit.pay.charge", event(fmt.Sprint(n), "normal"), "x")
			n++
		}
		if since > 10*time.Second {
			break
		}
	}
	r.awaitOutcomes(n, time.Minute)
	r.awaitEmpty()
}

// TestLanes_BusyKeyLetsOutWhatItHolds has a busy key, most of whose due operations wait in
// memory for their time. The held ones must go nevertheless.
func TestLanes_BusyKeyLetsOutWhatItHolds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := handlers.Config{Policies: policySet(t, strings.NewReplacer("10ms", "700ms", "20ms", "1s").Replace(guarded))}
	for range 3 {
		r.start(c)
	}
	_, _ = r.switched("pay.charge")
	r.hold("pay:charge")
	const held = 600
	r.submitAll(held, func(i int) (string, map[string]string) {
		return "retry.submit.pay.charge", event(fmt.Sprint("held-", i), "normal")
	})
	r.awaitHeld(held)
	r.act("reset", schemas.BreakerAct{Key: "pay:charge"})
	n := 0
	testkit.Eventually(t, time.Minute, "the lanes being empty while others come", func() bool {
		r.submitAll(1, func(int) (string, map[string]string) {
			n++
			return "retry.submit.pay.charge", event(fmt.Sprint("new-", n), "normal")
		})
		return r.count("RETRY", "retry.held.>") == 0
	})
	r.awaitOutcomes(held+n, time.Minute)
	r.awaitEmpty()
}
