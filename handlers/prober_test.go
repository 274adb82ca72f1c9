package handlers_test

import (
	"encoding/json"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/handlers"
)

// TestBreakers_WorkerThatFailsEveryFirstRedeliveryIsProbedByWhatItHasSeen keeps a backlog at a
// worker whose breaker opens at three failures in a row, with two instances.
func TestBreakers_WorkerThatFailsEveryFirstRedeliveryIsProbedByWhatItHasSeen(t *testing.T) {
	t.Parallel()
	policies := policySet(t, `default: {maxAttempts: 30, baseDelay: 500ms, maxDelay: 500ms, backoffStrategy: fixed, jitterType: none, enableAdaptiveBackoff: false, circuitBreakerThreshold: 3, circuitBreakerTimeout: 2s, maxConcurrentRetries: 2}`)
	r := newRig(t, handlers.Config{Policies: policies}, handlers.Config{Policies: policies})
	var mu sync.Mutex
	var numbers []int
	r.target("billing.charge", func(_ int, req micro.Request) (string, string, micro.Headers) {
		number, _ := strconv.Atoi(req.Headers().Get(events.HeaderAttempt))
		mu.Lock()
		defer mu.Unlock()
		numbers = append(numbers, number)
		if number == 2 {
			return "500", "not yet", nil
		}
		return "", "", nil
	})
	const n = 24
	began := time.Now()
	r.submitAll(n, func(int) (string, map[string]string) { return "retry.submit.billing.charge", nil })
	for _, o := range r.awaitOutcomes(n, 2*time.Minute) {
		if o.Outcome != events.RetrySuccess || o.Attempts != 3 {
			t.Errorf("an outcome is %+v, want a success at the third attempt", o)
		}
	}
	r.awaitEmpty()
	causes := map[string]int{}
	for _, m := range r.messages("RETRY_OUTCOMES", "retry.event.breakerChanged.>") {
		var c events.BreakerChange
		if err := json.Unmarshal(m.Data, &c); err != nil {
			t.Fatal(err)
		}
		causes[c.Cause]++
	}
	// The lanes of the other instance may be faster now and then. Without probes from the hand
	// each operation fails one.
	if causes[string(breaker.CauseProbeFailed)] > n/4 || causes[string(breaker.CauseFailures)] == 0 {
		t.Errorf("the breaker changed by %v, want it opened by failures and few failed probes", causes)
	}
	t.Logf("%d operations took %s, attempts %v, changes %v", n, time.Since(began).Round(time.Millisecond), numbers, causes)
}
