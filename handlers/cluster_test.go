package handlers_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/deadletter"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/schemas"
)

func TestService_LosesNoOperationWhenAClusterLosesItsLeader(t *testing.T) {
	t.Parallel()
	cluster := testkit.Cluster(t, 3)
	r := connect(t, cluster.URL())
	config := handlers.Config{Limits: streams.Limits{Replicas: 3}, Lease: 2 * time.Second, Policies: policySet(t, `
default: {maxAttempts: 100, baseDelay: 20ms, maxDelay: 1s, backoffStrategy: exponential, jitterType: full, attemptTimeout: 1s, enableCircuitBreaker: false}
`)}
	r.start(config)
	r.start(config)
	r.target("billing.charge", func(_ int, req micro.Request) (string, string, micro.Headers) {
		if req.Headers().Get(events.HeaderAttempt) == "2" {
			return "503", "busy", nil
		}
		return "", "", nil
	})
	const n = 150
	for i := range n {
		if i == n/3 {
			cluster.Stop(cluster.Leader())
		}
		testkit.Eventually(t, 30*time.Second, fmt.Sprintf("submission %d being stored", i), func() bool {
			return r.trySubmit("retry.submit.billing.charge", fmt.Sprintf("event-%d", i))
		})
	}
	testkit.Eventually(t, 2*time.Minute, fmt.Sprintf("%d outcomes", n), func() bool { return r.count("RETRY_OUTCOMES", "retry.outcome.>") >= n })
	ids := map[string]int{}
	for _, o := range r.outcomes() {
		ids[o.EventID]++
		if o.Outcome != events.RetrySuccess {
			t.Errorf("operation %s ended as %s, want retrySuccess", o.EventID, o.Outcome)
		}
	}
	for id, count := range ids {
		if count != 1 || !strings.HasPrefix(id, "event-") {
			t.Errorf("operation %s has %d outcomes, want 1", id, count)
		}
	}
	if len(ids) != n {
		t.Errorf("%d operations have an outcome, want %d", len(ids), n)
	}
}

func TestLanes_OutliveTheLeaderOfACluster(t *testing.T) {
	t.Parallel()
	cluster := testkit.Cluster(t, 3)
	r := connect(t, cluster.URL())
	config := handlers.Config{Limits: streams.Limits{Replicas: 3}, Lease: 2 * time.Second, Policies: policySet(t, guarded)}
	r.start(config)
	r.start(config)
	target, _ := r.switched("pay.charge")
	r.hold("pay:charge")
	const n = 100
	for i := range n {
		testkit.Eventually(t, 30*time.Second, fmt.Sprintf("submission %d being stored", i), func() bool {
			return r.trySubmit("retry.submit.pay.charge", fmt.Sprintf("event-%d", i))
		})
	}
	testkit.Eventually(t, 30*time.Second, "all to be held", func() bool { return r.count("RETRY", "retry.held.>") == n })
	cluster.Stop(cluster.Leader())
	testkit.Eventually(t, 60*time.Second, "the breaker to be reset", func() bool {
		_, err := r.nc.Request("rebound.breaker.reset", []byte(`{"key":"pay:charge"}`), 5*time.Second)
		if err != nil {
			return false
		}
		var status schemas.Status
		code, _ := r.request("rebound.status", nil, nil, &status)
		return code == "" && status.Coordination.Shared && len(status.Breakers) == 0
	})
	testkit.Eventually(t, 2*time.Minute, fmt.Sprintf("%d outcomes", n), func() bool { return r.count("RETRY_OUTCOMES", "retry.outcome.>") >= n })
	r.awaitEmpty()
	ids := map[string]int{}
	for _, o := range r.outcomes() {
		ids[o.EventID]++
	}
	for id, count := range ids {
		if count != 1 {
			t.Errorf("operation %s has %d outcomes, want 1", id, count)
		}
	}
	if len(ids) != n || len(target.order()) < n {
		t.Errorf("%d operations have an outcome after %d attempts, want %d", len(ids), len(target.order()), n)
	}
}

// TestService_WorksInTheDomainOfItsHubOnALeafNode lets operations fail, be held, and be let
// out, on streams that are reached by their domain only.
func TestService_WorksInTheDomainOfItsHubOnALeafNode(t *testing.T) {
	t.Parallel()
	r := connect(t, testkit.Leaf(t, "hub").URL)
	r.domain = "hub"
	r.js = testkit.JetStreamIn(t, r.nc, "hub")
	r.letters = deadletter.New(r.js, "")
	r.start(handlers.Config{Policies: policySet(t, guarded)})
	target, _ := r.switched("pay.charge")
	r.act("hold", schemas.BreakerAct{Key: "pay:charge"})
	const n = 20
	for i := range n {
		r.submit("retry.submit.pay.charge", event(fmt.Sprint(i), "normal"), "x")
	}
	testkit.Eventually(t, 30*time.Second, "all being held", func() bool { return r.count("RETRY", "retry.held.>") == n })
	r.act("reset", schemas.BreakerAct{Key: "pay:charge"})
	r.submit("retry.submit.pay.refund", map[string]string{events.HeaderDeadSequence: "many"}, "x")
	outcomes := r.awaitOutcomes(n+1, 30*time.Second)
	r.awaitEmpty()
	failed := 0
	for _, o := range outcomes {
		if o.Outcome == events.RetryFailed {
			failed++
		}
	}
	letters := 0
	for _, err := range r.letters.List(t.Context(), events.DeadLetterFilter{}) {
		if letters++; err != nil {
			t.Fatal(err)
		}
	}
	if failed != 1 || letters != 1 || len(target.order()) != n {
		t.Errorf("%d operations failed, %d have dead letters and %d were attempted, want 1, 1 and %d", failed, letters, len(target.order()), n)
	}
}
