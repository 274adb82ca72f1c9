package handlers_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// TestDefaults_OutageWastesFewAttemptsAndNoOperation is a row of the simulator's table of
// defaults on a real server: a target fails every call while ten operations a second come.
func TestDefaults_OutageWastesFewAttemptsAndNoOperation(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policy.Builtin()})
	target, calls := r.switched("pay.charge")
	target.down.Store(true)
	const n = 150
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	began := time.Now()
	for i := range n {
		r.submit("retry.submit.pay.charge", event(fmt.Sprint(i), events.Priorities[i%4].String()), "x")
		<-ticker.C
	}
	// The breaker opens after nine failures in a row, and what was on its way then fails
	// too; after that there is one probe each ten seconds.
	lasted := time.Since(began)
	if wasted, most := calls.Load(), int64(10+lasted/(10*time.Second)); wasted < 9 || wasted > most {
		t.Errorf("%d attempts were wasted in an outage of %v, want from 9 to %d", wasted, lasted.Round(time.Second), most)
	}
	target.down.Store(false)
	for _, o := range r.awaitOutcomes(n, time.Minute) {
		if o.Outcome != events.RetrySuccess {
			t.Errorf("%s ended in %s by %s, want success", o.EventID, o.Outcome, o.Reason)
		}
	}
	r.awaitEmpty()
}

// TestDefaults_DeadServiceAndPoisonedTypeHoldNobodyElse is two rows of that table.
func TestDefaults_DeadServiceAndPoisonedTypeHoldNobodyElse(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policy.Builtin()})
	fails := func(int, micro.Request) (string, string, micro.Headers) { return "503", "down", nil }
	r.target("dead.call", fails)
	r.target("well0.poisoned", fails)
	const services, each = 5, 20
	for i := range services {
		r.target(fmt.Sprintf("well%d.call", i), func(int, micro.Request) (string, string, micro.Headers) { return "", "", nil })
	}
	for i := range each {
		r.submit("retry.submit.dead.call", event(fmt.Sprintf("dead-%d", i), "normal"), "x")
		r.submit("retry.submit.well0.poisoned", event(fmt.Sprintf("poisoned-%d", i), "normal"), "x")
		for s := range services {
			r.submit(fmt.Sprintf("retry.submit.well%d.call", s), event(fmt.Sprintf("well-%d-%d", s, i), "normal"), "x")
		}
	}
	for _, o := range r.awaitOutcomes(services*each, time.Minute) {
		if !strings.HasPrefix(o.EventID, "well-") || o.Outcome != events.RetrySuccess || o.Attempts != 2 {
			t.Errorf("%s ended in %s after %d attempts, want only those that are well, in success after 2", o.EventID, o.Outcome, o.Attempts)
		}
	}
	// The others are neither lost nor given up.
	for _, key := range []string{"dead.call", "well0.poisoned"} {
		testkit.Eventually(t, time.Minute, "operations of "+key+" to be held", func() bool { return r.count("RETRY", "retry.held.*."+key+".>") > 0 })
	}
	if n := r.count("RETRY_DEAD", ">"); n > 0 {
		t.Errorf("%d operations were given up, want none", n)
	}
}

// TestDefaults_RestartOfATargetCostsNoAttempt is the first row of that table.
func TestDefaults_RestartOfATargetCostsNoAttempt(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policy.Builtin()}, handlers.Config{Policies: policy.Builtin()})
	const n = 100
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for i := range n {
		r.submit("retry.submit.pay.charge", event(fmt.Sprint(i), "normal"), "x")
		<-ticker.C
	}
	calls := r.target("pay.charge", func(int, micro.Request) (string, string, micro.Headers) { return "", "", nil })
	for _, got := range r.awaitOutcomes(n, time.Minute) {
		if got.Outcome != events.RetrySuccess || got.Attempts != 2 {
			t.Errorf("%s ended as %s after %d attempts, want retrySuccess after 2: while the target was away there was none", got.EventID, got.Outcome, got.Attempts)
		}
	}
	if calls.Load() != n {
		t.Errorf("the target was called %d times for %d operations, want each once", calls.Load(), n)
	}
}
