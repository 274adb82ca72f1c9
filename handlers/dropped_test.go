package handlers_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/schemas"
)

// statuses are headers of operations without payload that nats.go takes for the server's answers
// to a pull: an idle heartbeat, errors that end the pull, and one that it does not know.
var statuses = []nats.Header{
	{"Status": {"100"}, "Description": {"Idle Heartbeat"}},
	{"Status": {"404"}, "Description": {"No Messages"}},
	{"Status": {"400"}, "Description": {"Bad Request"}},
	{"Status": {"409"}, "Description": {"Consumer Deleted"}},
	{"Status": {"204"}, "Description": {"EOB"}},
	{"Status": {"paid"}},
}

// TestDropped_WhatLooksLikeAStatusSurvivesTheWholePath submits operations without payload whose
// headers look like the server's. They are held, redelivered, parked, redelivered, dead-lettered
// and replayed.
func TestDropped_WhatLooksLikeAStatusSurvivesTheWholePath(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{})
	r.pause(schemas.PauseAdd{Pattern: "billing"})
	attempts := make(chan micro.Headers, 100)
	r.target("billing.charge", func(_ int, req micro.Request) (string, string, micro.Headers) {
		attempts <- req.Headers()
		switch {
		case req.Headers().Get(events.HeaderReplay) != "":
			return "", "", nil
		case req.Headers().Get(events.HeaderAttempt) == "2":
			return "503", "busy", micro.Headers{events.HeaderRetryAfter: {"1"}}
		}
		return "404", "no such order", nil
	})
	n := len(statuses)
	wanted := make(map[string]nats.Header)
	for _, h := range statuses {
		var answer schemas.Submitted
		if code, text := r.request("rebound.submit.billing.charge", h, nil, &answer); code != "" {
			t.Fatalf("submitting %v is answered with %s %s", h, code, text)
		}
		wanted[answer.ID] = h
	}
	r.awaitHeld(n)
	r.resume("billing")
	r.awaitOutcomes(n, 30*time.Second)
	for _, d := range r.deadLetters() {
		if got, want := nats.Header(d.Header).Get("Status"), wanted[d.ID].Get("Status"); got != want || d.Reason != events.ReasonNotRetryable {
			t.Errorf("dead letter %s has the status %q and reason %s, want %q and %s", d.ID, got, d.Reason, want, events.ReasonNotRetryable)
		}
	}
	var replayed schemas.DeadActed
	if r.request("rebound.dead.replay", nil, map[string]any{"all": true}, &replayed); replayed.Done != n {
		t.Errorf("replaying all acted %+v, want %d done", replayed, n)
	}
	for _, o := range r.awaitOutcomes(2*n, 30*time.Second)[n:] {
		if o.Outcome != events.RetrySuccess {
			t.Errorf("the replay of %s ended in %+v, want a success", o.ID, o)
		}
	}
	r.awaitEmpty()
	for range 3 * n {
		got := <-attempts
		want := wanted[got.Get(events.HeaderID)]
		if got.Get("Status") != want.Get("Status") || got.Get("Description") != want.Get("Description") || got.Get(events.HeaderStatus) != "" {
			t.Errorf("attempt %s of run %q has the headers %v, want those of %v", got.Get(events.HeaderAttempt), got.Get(events.HeaderReplay), got, want)
		}
	}
}

// TestDropped_PlainPublishThatNatsGoDropsIsDelivered publishes past the clients of Rebound, so
// that the streams have messages that nats.go drops.
func TestDropped_PlainPublishThatNatsGoDropsIsDelivered(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{})
	calls := r.target("billing.charge", func(_ int, req micro.Request) (string, string, micro.Headers) {
		if req.Headers().Get("Status") == "" || len(req.Data()) > 0 {
			return "400", "the request has lost its header", nil
		}
		return "", "", nil
	})
	for _, h := range statuses {
		if _, err := r.js.PublishMsg(t.Context(), &nats.Msg{Subject: "retry.submit.billing.charge", Header: h}); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range r.awaitOutcomes(len(statuses), time.Minute) {
		if o.Outcome != events.RetrySuccess {
			t.Errorf("an outcome is %+v, want a success", o)
		}
	}
	r.awaitEmpty()
	if got := int(calls.Load()); got != len(statuses) {
		t.Errorf("there were %d attempts, want %d", got, len(statuses))
	}

	// What is no submission is buried, and a report is taken for one.
	r.send(badMessage{subject: "retry.due.normal.a.b.c", header: statuses[3]})
	r.send(badMessage{subject: "retry.report.billing.charge", header: statuses[1]})
	testkit.Eventually(t, time.Minute, "the foreign message being buried and the report refused", func() bool {
		return len(r.deadLetters()) == 1 && r.count("RETRY_INTAKE", ">") == 0
	})
	r.awaitEmpty()
}

func TestDropped_WorkerIsGivenWhatLooksLikeAStatus(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, working("20s"))})
	if code, text := r.request("rebound.submit.mail.send", nats.Header{"Status": {"503"}, "ce-delivery": {"publish"}}, nil, nil); code != "" {
		t.Fatalf("submitting is answered with %s %s", code, text)
	}
	m := r.job("RETRY_WORK")
	if got := m.Headers().Get(events.HeaderStatus); got != "503" {
		t.Errorf("the worker's message has %s %q, want 503", events.HeaderStatus, got)
	}
	r.say(reportOn(m, "success"))
	if o := r.awaitOutcomes(1, 20*time.Second)[0]; o.Outcome != events.RetrySuccess {
		t.Errorf("the outcome is %+v, want a success", o)
	}
}
