package handlers_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/schemas"
)

// badMessage is a message that the service buries or refuses, and the reason that it
// gives.
type badMessage struct {
	name    string
	subject string // the subject of submissions of billing:charge when empty
	header  nats.Header
	data    string
	want    string
}

// badRequest is a request that is answered with an error.
type badRequest struct {
	name, subject string
	header        nats.Header
	data          string
	code, want    string
}

// headerCase is a header that goes along with a message and names its case.
const headerCase = "X-Case"

// badPolicies are the policies of the instance; some keys have narrow limits.
const badPolicies = `
default: {maxAttempts: 3, baseDelay: 20ms, maxDelay: 1s, backoffStrategy: exponential, jitterType: none, attemptTimeout: 20s}
guarded: {targets: ["safe.>"], target: safe.it}
lane: {enableCircuitBreaker: true}
`

// TestService_BadInputEndsWithWhatIsWrongWithIt sends all bad input to one instance, and
// then checks what became of each.
func TestService_BadInputEndsWithWhatIsWrongWithIt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var log lockedBuilder
	r.start(handlers.Config{Policies: policySet(t, badPolicies), Logger: slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	r.orders()
	r.adopt(schemas.AdoptAdd{Stream: "ORDERS", Consumer: "worker"})
	r.laneWithForeign()

	buried := slices.Concat(badSubmissions(), foreignMessages(), badAdvisories())
	for _, c := range buried {
		r.send(c)
	}
	for _, c := range slices.Concat(badHealthReports(), badInstanceReports()) {
		if err := r.nc.PublishMsg(&nats.Msg{Subject: c.subject, Header: c.header, Data: []byte(c.data)}); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
	}
	requests, reports := badRequests(), r.badReports()
	if n := len(buried) + len(badHealthReports()) + len(badInstanceReports()) + len(requests) + len(reports); n < 100 {
		t.Errorf("there are %d bad inputs, want at least 100", n)
	}
	for _, c := range slices.Concat(requests, reports) {
		t.Run(c.name, func(t *testing.T) {
			code, text := r.request(c.subject, c.header, []byte(c.data), nil)
			if code != c.code || !strings.Contains(text, c.want) {
				t.Errorf("%s is answered with %s %.300q, want %s saying %q", c.subject, code, text, c.code, c.want)
			}
		})
	}

	// One more comes from the lane.
	testkit.Eventually(t, 20*time.Second, fmt.Sprintf("%d dead letters", len(buried)+1), func() bool {
		return r.count("RETRY_DEAD", ">") > len(buried)
	})
	r.checkBuried(append(buried, badMessage{name: "a foreign message in a lane", want: "no Retry-State header"}))
	r.checkRefused(&log, "a health report was refused", badHealthReports())
	r.checkRefused(&log, "a report of an instance was refused", badInstanceReports())
	if problem := r.refusedRevision(); !strings.Contains(problem, "no such key") {
		t.Errorf("policies stored without the check have the problem %q, want that there is no such key", problem)
	}
}

// send publishes a message, which is stored, with the name of its case.
func (r *rig) send(c badMessage) {
	r.t.Helper()
	m := &nats.Msg{Subject: c.subject, Header: nats.Header{headerCase: {c.name}}, Data: []byte(c.data)}
	if m.Subject == "" {
		m.Subject = "retry.submit.billing.charge"
	}
	for name, values := range c.header {
		m.Header[name] = values
	}
	if _, err := r.js.PublishMsg(r.t.Context(), m); err != nil {
		r.t.Fatalf("%s: publishing to %s: %v", c.name, m.Subject, err)
	}
}

// checkBuried looks for the dead letter of each case.
func (r *rig) checkBuried(cases []badMessage) {
	r.t.Helper()
	outcomes := map[string]events.Outcome{}
	for _, o := range r.outcomes() {
		outcomes[o.ID] = o
	}
	letters := map[string]*events.DeadLetter{}
	for _, d := range r.deadLetters() {
		letters[wire.HeaderValue(d.Header, headerCase)] = d
	}
	for _, c := range cases {
		r.t.Run(c.name, func(t *testing.T) {
			d := letters[c.name]
			if d == nil {
				t.Fatal("there is no dead letter of it")
			}
			if d.Reason != events.ReasonRejected || !strings.Contains(d.Detail, c.want) || string(d.Data) != c.data {
				t.Errorf("the dead letter is %+v, want one rejected because %q", d, c.want)
			}
			if strings.HasPrefix(c.subject, "retry.dead.") {
				return // Rebound did not bury it
			}
			if o := outcomes[d.ID]; o.Outcome != events.RetryFailed || o.Reason != events.ReasonRejected || !strings.Contains(o.Detail, c.want) {
				t.Errorf("the outcome is %+v, want it to say %q", o, c.want)
			}
		})
	}
}

// checkRefused looks up in the log what was refused, by subject and error.
func (r *rig) checkRefused(log fmt.Stringer, message string, cases []badMessage) {
	r.t.Helper()
	type line struct{ Msg, Subject, Error string }
	logged := func() (lines []line) {
		for text := range strings.Lines(log.String()) {
			var l line
			if err := json.Unmarshal([]byte(text), &l); err == nil && l.Msg == message {
				lines = append(lines, l)
			}
		}
		return lines
	}
	testkit.Eventually(r.t, 10*time.Second, fmt.Sprintf("%d times that %s", len(cases), message), func() bool { return len(logged()) >= len(cases) })
	lines := logged()
	for _, c := range cases {
		if !slices.ContainsFunc(lines, func(l line) bool { return l.Subject == c.subject && strings.Contains(l.Error, c.want) }) {
			r.t.Errorf("%s: the log does not say %q of %s", c.name, c.want, c.subject)
		}
	}
}

// laneWithForeign puts somebody else's message into a lane and lets the lane out.
func (r *rig) laneWithForeign() {
	r.t.Helper()
	r.target("lane.op", func(int, micro.Request) (string, string, micro.Headers) { return "", "", nil })
	if code, text := r.request("rebound.breaker.hold", nil, schemas.BreakerAct{Key: "lane:op"}, nil); code != "" {
		r.t.Fatalf("holding the breaker is answered with %s %s", code, text)
	}
	r.submit("retry.submit.lane.op", nil, "x")
	testkit.Eventually(r.t, 10*time.Second, "the operation being held", func() bool { return r.count("RETRY", "retry.held.normal.lane.op.>") == 1 })
	r.send(badMessage{name: "a foreign message in a lane", subject: "retry.held.normal.lane.op." + strings.Repeat("1", 32)})
	if code, text := r.request("rebound.breaker.reset", nil, schemas.BreakerAct{Key: "lane:op"}, nil); code != "" {
		r.t.Fatalf("resetting the breaker is answered with %s %s", code, text)
	}
}

// refusedRevision stores bad policies without the check and returns the problem in the
// status.
func (r *rig) refusedRevision() string {
	r.t.Helper()
	bucket, err := r.js.KeyValue(r.t.Context(), "RETRY_POLICIES")
	if err == nil {
		_, err = bucket.PutString(r.t.Context(), "current", "default: {maxRetries: 3}")
	}
	if err != nil {
		r.t.Fatal(err)
	}
	var status schemas.Status
	testkit.Eventually(r.t, 10*time.Second, "the policies being refused", func() bool {
		r.request("rebound.status", nil, nil, &status)
		return status.Policies.Refused != nil
	})
	return status.Policies.Refused.Problem
}
