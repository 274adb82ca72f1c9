package handlers_test

import (
	"maps"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/handlers"
)

func TestRequester_ErrorInAnyLetterCaseIsAFailure(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{})
	for service, h := range map[string]nats.Header{
		"small":   {"nats-service-error-code": {"404"}, "nats-service-error": {"no such order"}},
		"capital": {"NATS-SERVICE-ERROR-CODE": {"404"}, "NATS-SERVICE-ERROR": {"no such order"}},
	} {
		_, err := r.nc.Subscribe(service+".charge", func(m *nats.Msg) { _ = m.RespondMsg(&nats.Msg{Header: h}) })
		if err != nil {
			t.Fatal(err)
		}
		r.submit("retry.submit."+service+".charge", nil, "x")
	}
	for _, got := range r.awaitOutcomes(2, 20*time.Second) {
		if got.Outcome != events.RetryFailed || got.Error == nil || got.Error.Code != "404" || got.Error.Message != "no such order" {
			t.Errorf("the outcome of %s is %+v, want a retryFailed with code 404", got.Service, got)
		}
	}
}

// TestHeaders_OfTheSubmissionComeBackWhateverTheyAreCalled submits headers that look like
// Rebound's and the server's, and parks and redelivers the operation twice.
func TestHeaders_OfTheSubmissionComeBackWhateverTheyAreCalled(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{})
	attempts := make(chan nats.Header, 3)
	_, err := r.nc.Subscribe("elsewhere.charge", func(m *nats.Msg) {
		attempts <- m.Header
		if len(attempts) == 1 {
			_ = m.RespondMsg(&nats.Msg{Header: nats.Header{"nats-SERVICE-error-code": {"503"}, "RETRY-AFTER": {"1"}}})
			return
		}
		_ = m.Respond(nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	own := map[string]string{"Retry-Budget": "7", "retry-queue": "x", "Nats-Tenant": "y", "Nats-Msg-Id": "m-1", "nats-schedule": "@at 2000-01-01T00:00:00Z", "Retry-Token": "forged"}
	h := map[string]string{"ce-Target": "elsewhere.charge", "CE-ErrorCode": "503", "Ce-RetryAfter": "0.8"}
	maps.Copy(h, own)
	r.submit("retry.submit.billing.charge", h, "x")
	if got := r.awaitOutcomes(1, 20*time.Second)[0]; got.Outcome != events.RetrySuccess || got.Attempts != 3 || got.Target != "elsewhere.charge" {
		t.Errorf("the outcome is %+v, want a success at attempt 3 of elsewhere.charge", got)
	}
	for attempt := 2; attempt <= 3; attempt++ {
		got := <-attempts
		for name, value := range own {
			if events.IsOwned(name) {
				value = ""
			}
			if got.Get(name) != value {
				t.Errorf("attempt %d has the header %s: %q, want %q", attempt, name, got.Get(name), value)
			}
		}
	}
}

func TestIntake_ReplayInSmallLettersIsAReplay(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{})
	_, err := r.nc.Subscribe("billing.charge", func(m *nats.Msg) { _ = m.Respond(nil) })
	if err != nil {
		t.Fatal(err)
	}
	r.submit("retry.submit.billing.charge", map[string]string{"ce-errorcode": "404"}, "x")
	r.awaitOutcomes(1, 20*time.Second)
	d := r.deadLetters()[0]
	r.submit("retry.submit.billing.charge", map[string]string{"retry-dead-sequence": strconv.FormatUint(d.Sequence, 10)}, "")
	if got := r.awaitOutcomes(2, 20*time.Second)[1]; got.ID != d.ID || got.Outcome != events.RetrySuccess || got.Replay != 1 {
		t.Errorf("the outcome is %+v, want that operation %s succeeded in its replay", got, d.ID)
	}
	r.awaitEmpty()
}
