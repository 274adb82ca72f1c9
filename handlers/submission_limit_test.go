package handlers_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/schemas"
)

// blocked starts an instance that takes nothing in, because its consumer is paused. At
// most limit submissions of one service may wait.
func (r *rig) blocked(limit int64) {
	r.t.Helper()
	limits := streams.Limits{MaxSubmitted: limit}
	r.start(handlers.Config{Limits: limits})
	if _, err := r.js.PauseConsumer(r.t.Context(), "RETRY_INTAKE", "rebound-intake", time.Now().Add(time.Hour)); err != nil {
		r.t.Fatal(err)
	}
}

func TestSubmissionLimit_RefusesWhatIsBeyondItAndNobodyElse(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.blocked(3)
	ask := func(subject string) (code, text string) {
		m, err := r.nc.RequestMsg(submission(subject, nil, "x"), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		return m.Header.Get("Nats-Service-Error-Code"), m.Header.Get("Nats-Service-Error")
	}
	for i, op := range []string{"a", "b", "c"} {
		if code, text := ask("rebound.submit.flood." + op); code != "" {
			t.Fatalf("submission %d was refused: %s %s", i, code, text)
		}
	}
	code, text := ask("rebound.submit.flood.d")
	if code != "429" || !strings.Contains(text, "service flood has 3 submissions waiting to be taken in, and may have 3") {
		t.Errorf("the fourth was answered with %q %q, want 429 and the reason", code, text)
	}
	if code, text := ask("rebound.submit.small.a"); code != "" {
		t.Errorf("another service was refused: %s %s", code, text)
	}
	var status schemas.Status
	r.request("rebound.status", nil, nil, &status)
	if status.Limit != 3 || len(status.Waiting) != 2 || status.Waiting[0] != (schemas.ServiceSubmitted{Service: "flood", Submitted: 3}) {
		t.Errorf("the status has limit %d and %v, want flood first with 3", status.Limit, status.Waiting)
	}
	if _, err := r.js.ResumeConsumer(t.Context(), "RETRY_INTAKE", "rebound-intake"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 20*time.Second, "the service to be let in again", func() bool {
		code, _ := ask("rebound.submit.flood.e")
		return code == ""
	})
}

func TestSubmissionLimit_StreamRefusesWhatIsPublishedToIt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.blocked(2)
	publish := func() error {
		_, err := r.js.PublishMsg(t.Context(), &nats.Msg{Subject: "retry.submit.flood.op"})
		return err
	}
	for range 2 {
		if err := publish(); err != nil {
			t.Fatal(err)
		}
	}
	if err := publish(); err == nil || !strings.Contains(err.Error(), "maximum messages per subject exceeded") {
		t.Errorf("the third was answered with %v, want that the subject is full", err)
	}
	if n := r.count("RETRY_INTAKE", "retry.submit.>"); n != 2 {
		t.Errorf("%d submissions wait, want the first 2", n)
	}
	// The request finds the subject full too, whatever was counted.
	m, err := r.nc.RequestMsg(submission("rebound.submit.flood.op", nil, "x"), 10*time.Second)
	if err != nil || m.Header.Get("Nats-Service-Error-Code") != "429" {
		t.Errorf("the request was answered with %v %v, want 429", m, err)
	}
}

func TestSubmissionLimit_LeavesAStreamThatExistsAsItIs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if err := streams.Ensure(t.Context(), r.js, streams.Configs(events.Streams{}, streams.Limits{})); err != nil {
		t.Fatal(err)
	}
	r.start(handlers.Config{Limits: streams.Limits{MaxSubmitted: 5}})
	s, err := r.js.Stream(t.Context(), "RETRY_INTAKE")
	if err != nil {
		t.Fatal(err)
	}
	if c := s.CachedInfo().Config; c.MaxMsgsPerSubject > 0 || c.DiscardNewPerSubject || c.Discard != jetstream.DiscardNew {
		t.Errorf("the stream was changed: %d messages a subject, %t", c.MaxMsgsPerSubject, c.DiscardNewPerSubject)
	}
}
