package handlers_test

import (
	"strings"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/testkit"
)

// TestRequester_TargetThatTheUserMayNotPublishTo submits operations of both deliveries whose
// targets the server denies to the service's user. With a timeout of an hour only the denial can
// end an attempt.
func TestRequester_TargetThatTheUserMayNotPublishTo(t *testing.T) {
	t.Parallel()
	server := testkit.PlainServer(t, &natsd.Options{JetStream: true, StoreDir: t.TempDir(), Users: []*natsd.User{{
		Username: "u", Password: "p", Permissions: &natsd.Permissions{Publish: &natsd.SubjectPermission{
			Allow: []string{">"}, Deny: []string{"vault.>"},
		}},
	}}})
	r := connect(t, strings.Replace(server.ClientURL(), "://", "://u:p@", 1))
	if _, err := r.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "VAULT", Subjects: []string{"vault.work"}}); err != nil {
		t.Fatal(err)
	}
	var log testkit.Buffer
	r.start(handlers.Config{Logger: logger(&log), Policies: policySet(t, `
default: {maxAttempts: 9, baseDelay: 20ms, backoffStrategy: fixed, jitterType: none, attemptTimeout: 1h, maxElapsedTime: 0,
  enableCircuitBreaker: true, circuitBreakerThreshold: 1}
`)})
	r.submit("retry.submit.vault.open", nil, "x")
	r.submit("retry.submit.vault.open", map[string]string{"ce-delivery": "publish", "ce-target": "vault.work", "ce-attempttimeout": "3600000"}, "y")
	for _, got := range r.awaitOutcomes(2, 20*time.Second) {
		if got.Outcome != events.RetryFailed || got.Error == nil || got.Error.Code != "forbidden_target" ||
			got.Reason != events.ReasonNotRetryable || got.Rule != "forbidden" || got.Attempts != 2 ||
			!strings.HasPrefix(got.Error.Message, "this service's NATS user may not publish to vault.") {
			t.Errorf("the outcome is %+v with %+v, want retryFailed by forbidden_target at attempt 2", got, got.Error)
		}
	}
	if letters := r.deadLetters(); len(letters) != 2 {
		t.Errorf("%d dead letters, want 2", len(letters))
	}
	testkit.Eventually(t, 20*time.Second, "the log telling of the dead letters and of the denial, once each", func() bool {
		text := log.String()
		return strings.Count(text, "operations were dead-lettered") == 1 && strings.Contains(text, "key=vault:open reason=not_retryable operations=2") &&
			strings.Count(text, "this NATS user may not publish to the target") == 1
	})
	if shown := r.breaker("vault:open"); shown.State != breaker.Closed {
		t.Errorf("the breaker is %v, want closed: a denial says nothing of the target", shown.State)
	}
}
