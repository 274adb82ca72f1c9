package handlers_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// The default policy on real servers; `rebound simulate --scenario defaults` plays the same
// situations at length.

// stream submits an operation every 50 ms until enough says so, and returns how many.
func (r *rig) stream(subject string, enough func(n int) bool) (n int) {
	r.t.Helper()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(2 * time.Minute); !enough(n); n++ {
		if time.Now().After(deadline) {
			r.t.Fatalf("%d operations were submitted in two minutes, and it is not enough", n)
		}
		r.submit(subject, map[string]string{"ce-id": strconv.Itoa(n)}, "x")
		<-ticker.C
	}
	return n
}

func TestDefaults_TargetThatFailsEveryCallCostsFewAttemptsAndLosesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policy.Builtin()}, handlers.Config{Policies: policy.Builtin()})
	var ill atomic.Bool
	var failed atomic.Int64
	ill.Store(true)
	r.target("pay.charge", func(int, micro.Request) (string, string, micro.Headers) {
		if ill.Load() {
			failed.Add(1)
			return "503", "the database is down", nil
		}
		return "", "", nil
	})
	begin := time.Now()
	// Two probes at least have found the target as ill as before.
	n := r.stream("retry.submit.pay.charge", func(int) bool { return failed.Load() >= 7 && time.Since(begin) > 20*time.Second })
	outage := time.Since(begin)
	ill.Store(false)
	// The breaker opens within 10 failures, those on their way included, and then lets one
	// probe through in ten seconds.
	if most := 10 + int64(outage/(10*time.Second)) + 1; failed.Load() > most {
		t.Errorf("%d attempts failed in an outage of %v, want %d at most", failed.Load(), outage.Round(time.Second), most)
	}
	for _, got := range r.awaitOutcomes(n, 2*time.Minute) {
		if got.Outcome != events.RetrySuccess {
			t.Errorf("%s ended as %s (%s), want everything delivered once the target is well", got.EventID, got.Outcome, got.Detail)
		}
	}
	r.awaitEmpty()
}

func TestDefaults_RestartOfATargetCostsNoAttempt(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policy.Builtin()}, handlers.Config{Policies: policy.Builtin()})
	begin := time.Now()
	n := r.stream("retry.submit.pay.charge", func(int) bool { return time.Since(begin) > 10*time.Second })
	calls := r.target("pay.charge", func(int, micro.Request) (string, string, micro.Headers) { return "", "", nil })
	for _, got := range r.awaitOutcomes(n, time.Minute) {
		if got.Outcome != events.RetrySuccess || got.Attempts != 2 {
			t.Errorf("%s ended as %s after %d attempts, want retrySuccess after 2: while the target was away there was none", got.EventID, got.Outcome, got.Attempts)
		}
	}
	if int(calls.Load()) != n {
		t.Errorf("the target was called %d times for %d operations, want each once", calls.Load(), n)
	}
}

func TestDefaults_DeadServiceHoldsNobodyElse(t *testing.T) {
	t.Parallel()
	const services, each = 5, 40
	r := newRig(t)
	instances := []*handlers.Service{r.start(handlers.Config{Policies: policy.Builtin()}), r.start(handlers.Config{Policies: policy.Builtin()})}
	dead := r.target("dead.call", func(int, micro.Request) (string, string, micro.Headers) { return "503", "down", nil })
	for i := range services {
		r.target(fmt.Sprintf("well%d.call", i), func(int, micro.Request) (string, string, micro.Headers) { return "", "", nil })
	}
	r.submitAll(each, func(i int) (string, map[string]string) {
		return "retry.submit.dead.call", map[string]string{"ce-id": strconv.Itoa(i)}
	})
	testkit.Eventually(t, time.Minute, "the dead service being attempted", func() bool { return dead.Load() > 4 })
	r.submitAll(services*each, func(i int) (string, map[string]string) {
		return fmt.Sprintf("retry.submit.well%d.call", i%services), map[string]string{"ce-id": strconv.Itoa(i)}
	})
	for _, got := range r.awaitOutcomes(services*each, time.Minute) {
		if got.Outcome != events.RetrySuccess || got.Attempts != 2 {
			t.Errorf("an operation of %s ended as %s after %d attempts, want retrySuccess after 2", got.Service, got.Outcome, got.Attempts)
		}
	}
	for _, s := range instances {
		w := httptest.NewRecorder()
		s.HTTP().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		for line := range strings.Lines(w.Body.String()) {
			if strings.HasPrefix(line, "rebound_operations_held_total") && strings.Contains(line, `service="well`) && !strings.HasSuffix(line, " 0\n") {
				t.Errorf("operations of a service that is well were held: %s", strings.TrimSpace(line))
			}
		}
	}
}
