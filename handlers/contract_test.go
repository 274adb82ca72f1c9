package handlers_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/schemas"
)

// TestService_EventsDeadLettersAndAnswersFollowTheirSchemas runs operations to every kind
// of end and validates all events, dead letters and answers.
func TestService_EventsDeadLettersAndAnswersFollowTheirSchemas(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, `
default: {maxAttempts: 3, baseDelay: 10ms, maxDelay: 50ms, backoffStrategy: adaptive, jitterType: full, attemptTimeout: 20s}
`)})
	r.target("ok.op", func(call int, _ micro.Request) (string, string, micro.Headers) {
		if call == 1 {
			return "429", "slow down", micro.Headers{"Retry-After": {"0.05"}}
		}
		return "", "", nil
	})
	r.target("bad.op", func(int, micro.Request) (string, string, micro.Headers) { return "503", "busy", nil })
	r.target("gone.op", func(int, micro.Request) (string, string, micro.Headers) { return "404", "gone", nil })
	r.report("retry.health.ok", `{"cpuUtilization":1,"memoryUtilization":2,"poolUtilization":3,"systemLoad":0.5,"activeConnections":4,"queueLength":5,"errorRate":0.1,"averageResponseTime":7}`)
	whole := map[string]string{
		"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": events.TypeFailed, "ce-priority": "critical", "ce-accountid": "a",
		"ce-campaignid": "c", "ce-errorcode": "timeout", "ce-errormessage": "no answer", "ce-subject": "order/1",
	}
	for _, service := range []string{"ok", "bad", "gone"} {
		r.submit("retry.submit."+service+".op", whole, `{"n":1}`)
	}
	r.submit("retry.submit.ok.op", map[string]string{"ce-deadline": time.Now().UTC().Format(time.RFC3339)}, "x")
	r.submit("retry.submit.ok.op", map[string]string{"ce-attempt": "many"}, "x")
	r.awaitOutcomes(5, 15*time.Second)
	r.awaitEmpty()

	seen := map[string]int{}
	for _, m := range r.messages("RETRY_OUTCOMES", "retry.>") {
		name := strings.Split(m.Subject, ".")[2]
		seen[name]++
		if got, want := m.Header.Get("ce-type"), events.EventType(name); got != want {
			t.Errorf("event on %s has type %s, want %s", m.Subject, got, want)
		}
		if err := schemas.Validate(m.Header.Get("ce-type"), m.Data); err != nil {
			t.Errorf("event on %s breaks its schema: %v\n%s", m.Subject, err, m.Data)
		}
	}
	if seen[events.RetrySuccess] != 1 || seen[events.RetryFailed] != 4 || seen[events.RetryScheduled] < 5 {
		t.Errorf("saw events %v, want 1 retrySuccess, 4 retryFailed and some retryScheduled", seen)
	}
	for _, d := range r.deadLetters() {
		doc, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		if err := schemas.Validate("deadLetter", doc); err != nil {
			t.Errorf("dead letter %s breaks its schema: %v\n%s", d.ID, err, doc)
		}
	}
	for subject, schema := range map[string]string{"rebound.status": "status.response", "rebound.health": "health.response", "rebound.dead.list": "deadList.response"} {
		var answer json.RawMessage
		r.request(subject, nil, nil, &answer)
		if err := schemas.Validate(schema, answer); err != nil {
			t.Errorf("the answer of %s breaks its schema: %v\n%s", subject, err, answer)
		}
	}
}
