package handlers_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestClock_InstanceWhoseHostIsAnHourOffIsNeitherEarlyNorLate(t *testing.T) {
	t.Parallel()
	for name, skew := range map[string]time.Duration{"ahead": time.Hour, "behind": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := policySet(t, `default: {maxAttempts: 3, baseDelay: 700ms, maxDelay: 2s, backoffStrategy: linear, jitterType: equal, attemptTimeout: 1m, enableCircuitBreaker: false}`)
			r := newRig(t)
			off := r.start(handlers.Config{Policies: set, Now: func() time.Time { return time.Now().Add(skew) }})
			r.start(handlers.Config{Policies: set})
			var mu sync.Mutex
			came := map[string]time.Time{} // by operation and attempt
			r.target("billing.charge", func(_ int, req micro.Request) (string, string, micro.Headers) {
				now := time.Now()
				h := req.Headers()
				mu.Lock()
				defer mu.Unlock()
				came[h.Get(events.HeaderID)+"/"+h.Get(events.HeaderAttempt)] = now
				if h.Get(events.HeaderAttempt) == "2" {
					return "503", "busy", nil
				}
				return "", "", nil
			})
			const n = 200
			r.submitAll(n, func(i int) (string, map[string]string) {
				return "retry.submit.billing.charge", map[string]string{"ce-id": fmt.Sprint(i), "ce-errorcode": "503"}
			})
			r.awaitOutcomes(n, 60*time.Second)
			r.awaitEmpty()
			mu.Lock()
			defer mu.Unlock()
			if len(came) != 2*n {
				t.Errorf("%d attempts were made, want %d", len(came), 2*n)
			}
			for _, m := range r.messages("RETRY_OUTCOMES", "retry.event.retryScheduled.>") {
				var e events.Scheduled
				if err := json.Unmarshal(m.Data, &e); err != nil {
					t.Fatal(err)
				}
				at, ok := came[fmt.Sprintf("%s/%d", e.ID, e.Attempt+1)]
				if early := e.Due.Sub(at); !ok || early > 0 {
					t.Errorf("attempt %d of operation %s came %s early (%t)", e.Attempt+1, e.ID, early, ok)
				}
			}
			if _, says := readyz(t, off); !strings.Contains(says, "1h0m0s "+name) {
				t.Errorf("/readyz says %q, want that the clock is off", says)
			}
			testkit.Eventually(t, 10*time.Second, "an answer that warns of the clock", func() bool {
				m, err := r.nc.Request("rebound.health", nil, time.Second)
				return err == nil && strings.Contains(string(m.Data), "1h0m0s "+name)
			})
		})
	}
}
