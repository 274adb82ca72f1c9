package handlers_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/handlers"
)

func TestRequester_ErrorInSmallLettersIsAFailure(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{})
	_, err := r.nc.Subscribe("billing.charge", func(m *nats.Msg) {
		_ = m.RespondMsg(&nats.Msg{Header: nats.Header{"nats-service-error-code": {"404"}, "nats-service-error": {"no such order"}}})
	})
	if err != nil {
		t.Fatal(err)
	}
	r.submit("retry.submit.billing.charge", nil, "x")
	got := r.awaitOutcomes(1, 20*time.Second)[0]
	if got.Outcome != events.RetryFailed || got.Error == nil || got.Error.Code != "404" || got.Error.Message != "no such order" {
		t.Errorf("the outcome is %+v, want a retryFailed with code 404", got)
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
