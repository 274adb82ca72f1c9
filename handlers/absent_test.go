package handlers_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/scheduler/gate"
	"github.com/rebound-mq/rebound/schemas"
)

// absentKeys returns the keys that are shut because nobody listens on their targets.
func (r *rig) absentKeys() (keys []scheduler.KeyReport) {
	r.t.Helper()
	var status schemas.Status
	r.request("rebound.status", nil, nil, &status)
	for _, k := range status.Gates {
		if k.Cause == gate.CauseAbsent {
			keys = append(keys, k)
		}
	}
	return keys
}

func TestAbsent_OperationsWaitForTheirTargetAndCostNothing(t *testing.T) {
	t.Parallel()
	const n = 50
	yaml := policySet(t, "default: {maxAttempts: 2, baseDelay: 20ms, jitterType: none, attemptTimeout: 20s}")
	r := newRig(t)
	instances := []*handlers.Service{r.start(handlers.Config{Policies: yaml}), r.start(handlers.Config{Policies: yaml})}
	r.submitAll(n, func(i int) (string, map[string]string) {
		return "retry.submit.billing.charge", map[string]string{"ce-id": strconv.Itoa(i)}
	})
	testkit.Eventually(t, 20*time.Second, "the operations being held but for a prober at each instance", func() bool {
		return r.count("RETRY", "retry.held.>") >= n-2-4
	})
	// Either instance answers, and one may not have met the absent target yet.
	testkit.Eventually(t, 20*time.Second, "the status naming billing:charge, shut because nobody listens on billing.charge", func() bool {
		keys := r.absentKeys()
		return len(keys) == 1 && keys[0].Shut && keys[0].Absent != nil && keys[0].Absent.Subject == "billing.charge"
	})
	for i, s := range instances {
		testkit.Eventually(t, time.Minute, "instance "+strconv.Itoa(i)+" saying how many are held and why", func() bool {
			ready := httptest.NewRecorder()
			s.HTTP().ServeHTTP(ready, httptest.NewRequest(http.MethodGet, "/readyz", nil))
			metrics := httptest.NewRecorder()
			s.HTTP().ServeHTTP(metrics, httptest.NewRequest(http.MethodGet, "/metrics", nil))
			says := func(held int) bool {
				return strings.Contains(ready.Body.String(), fmt.Sprintf(`"key":"billing:charge","held":%d,"cause":"absent","because":"nobody listens on billing.charge"`, held)) &&
					strings.Contains(metrics.Body.String(), fmt.Sprintf(`rebound_held_operations{cause="absent"} %d`, held))
			}
			held := r.count("RETRY", "retry.held.>")
			return says(held) || says(held+1) // with the prober that it has in hand, if it has one
		})
	}
	calls := r.target("billing.charge", func(int, micro.Request) (string, string, micro.Headers) { return "", "", nil })
	for _, got := range r.awaitOutcomes(n, 30*time.Second) {
		if got.Outcome != events.RetrySuccess || got.Attempts != 2 {
			t.Errorf("ended as %s after %d attempts, want retrySuccess after 2: nobody was reached before", got.Outcome, got.Attempts)
		}
	}
	if calls.Load() != n {
		t.Errorf("the target was called %d times, want %d", calls.Load(), n)
	}
	r.awaitEmpty()
}

func TestAbsent_SingleOperationThatWaitsIsTold(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := r.start(handlers.Config{})
	r.submit("retry.submit.billing.charge", nil, "x")
	const want = `"held":[{"key":"billing:charge","held":1,"cause":"absent","because":"nobody listens on billing.charge","since":"`
	testkit.Eventually(t, 20*time.Second, "/readyz telling of the one that waits", func() bool {
		ready := httptest.NewRecorder()
		s.HTTP().ServeHTTP(ready, httptest.NewRequest(http.MethodGet, "/readyz", nil))
		return strings.Contains(ready.Body.String(), want)
	})
	if keys := r.absentKeys(); len(keys) != 1 || !keys[0].Shut || keys[0].HeldUp() != 1 {
		t.Errorf("the status has the absent keys %+v, want one that is shut, with one operation held up", keys)
	}
}

func TestAbsent_MisspeltTargetHoldsNobodyElse(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, "default: {maxAttempts: 2, baseDelay: 20ms, jitterType: none, attemptTimeout: 20s, maxElapsedTime: 5s}")})
	r.target("billing.charge", func(int, micro.Request) (string, string, micro.Headers) { return "", "", nil })
	r.submitAll(3, func(i int) (string, map[string]string) {
		return "retry.submit.billing.charge", map[string]string{"ce-id": "typo" + strconv.Itoa(i), "ce-target": "biling.charge"}
	})
	testkit.Eventually(t, 20*time.Second, "the misspelt target being absent", func() bool { return len(r.absentKeys()) == 1 })
	r.submitAll(3, func(i int) (string, map[string]string) {
		return "retry.submit.billing.charge", map[string]string{"ce-id": "well" + strconv.Itoa(i)}
	})
	for _, got := range r.awaitOutcomes(6, 30*time.Second) {
		want := events.RetrySuccess
		if strings.HasPrefix(got.EventID, "typo") {
			want = events.RetryFailed
			if got.Reason != events.ReasonMaxElapsed || !strings.Contains(got.Detail, "absent") || got.Attempts != 1 {
				t.Errorf("%s ended with %s (%s) after %d attempts, want max_elapsed because its target was absent, after 1", got.EventID, got.Reason, got.Detail, got.Attempts)
			}
		}
		if got.Outcome != want {
			t.Errorf("%s ended as %s, want %s", got.EventID, got.Outcome, want)
		}
	}
	r.awaitEmpty()
}

func TestAbsent_StreamTargetIsWaitedFor(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, working("20s"))})
	// Whoever hears the subject without a stream keeps the server from saying that nobody does.
	r.overhear("jobs.>")
	r.submitAll(3, func(i int) (string, map[string]string) {
		return "retry.submit.billing.charge", map[string]string{"ce-id": strconv.Itoa(i), "ce-delivery": "publish", "ce-target": "jobs.charge"}
	})
	testkit.Eventually(t, 20*time.Second, "the target being absent", func() bool { return len(r.absentKeys()) == 1 })
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := r.js.CreateStream(ctx, jetstream.StreamConfig{Name: "JOBS", Subjects: []string{"jobs.>"}}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		m := r.job("JOBS")
		if a := m.Headers().Get(events.HeaderAttempt); a != "2" {
			t.Errorf("the worker got attempt %s, want 2: nobody was reached before", a)
		}
		r.say(reportOn(m, "success"))
	}
	r.awaitOutcomes(3, 20*time.Second)
	r.awaitEmpty()
}

func TestDelivery_WorkStreamIsMadeAlthoughSomebodySubscribesToEverything(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, working("20s"))})
	r.overhear("retry.>")
	r.submit("retry.submit.billing.charge", publish, "x")
	r.say(reportOn(r.job("RETRY_WORK"), "success"))
	if got := r.awaitOutcomes(1, 20*time.Second)[0]; got.Outcome != events.RetrySuccess {
		t.Errorf("ended as %s (%s), want retrySuccess", got.Outcome, got.Detail)
	}
}

func TestDelivery_WorkStreamStandsBeforeTheFirstOperationIfAPolicyPublishes(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, "billing: {delivery: publish, baseDelay: 20ms}")})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := r.js.Stream(ctx, "RETRY_WORK"); err != nil {
		t.Fatalf("looking for RETRY_WORK after the start: %v, want it to be there", err)
	}
	r.submit("retry.submit.billing.charge", nil, "x")
	if m := r.job("RETRY_WORK"); m.Subject() != "retry.work.billing.charge" {
		t.Errorf("the worker got %s, want retry.work.billing.charge", m.Subject())
	}
}
