package handlers_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/schemas"
)

// working returns policies under which a worker may be silent for that long.
func working(attemptTimeout string) string {
	return `default: {maxAttempts: 3, baseDelay: 20ms, maxDelay: 1s, backoffStrategy: exponential, jitterType: none, attemptTimeout: ` + attemptTimeout + `}`
}

var publish = map[string]string{"ce-delivery": "publish"}

// job takes the next operation from a stream of workers.
func (r *rig) job(stream string) jetstream.Msg {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var consumer jetstream.Consumer
	testkit.Eventually(r.t, 10*time.Second, "the stream "+stream, func() bool {
		var err error
		consumer, err = r.js.CreateOrUpdateConsumer(ctx, stream, jetstream.ConsumerConfig{Durable: "worker", AckPolicy: jetstream.AckExplicitPolicy})
		return err == nil
	})
	m, err := consumer.Next(jetstream.FetchMaxWait(15 * time.Second))
	if err != nil {
		r.t.Fatalf("the worker was given nothing: %v", err)
	}
	if err := m.DoubleAck(ctx); err != nil {
		r.t.Fatal(err)
	}
	return m
}

// reportOn returns a report on an attempt that consists of headers, as the plain
// nats CLI makes it.
func reportOn(m jetstream.Msg, result string, more ...string) *nats.Msg {
	h := m.Headers()
	out := &nats.Msg{Subject: h.Get(events.HeaderReport), Header: nats.Header{events.HeaderResult: {result}}}
	for _, name := range []string{events.HeaderID, events.HeaderAttempt, events.HeaderToken} {
		out.Header[name] = []string{h.Get(name)}
	}
	for i := 0; i < len(more); i += 2 {
		out.Header[more[i]] = []string{more[i+1]}
	}
	return out
}

// say stores a report.
func (r *rig) say(m *nats.Msg) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := r.js.PublishMsg(ctx, m); err != nil {
		r.t.Fatalf("reporting on %s: %v", m.Subject, err)
	}
}

// sayTo makes a report as a request and returns the error code of the answer, empty if
// it is accepted.
func (r *rig) sayTo(m *nats.Msg) string {
	r.t.Helper()
	m.Subject = "rebound." + m.Subject[len("retry."):]
	answer, err := r.nc.RequestMsg(m, 10*time.Second)
	if err != nil {
		r.t.Fatalf("reporting on %s: %v", m.Subject, err)
	}
	return answer.Header.Get(micro.ErrorCodeHeader)
}

func (r *rig) reports() schemas.ReportCounts {
	r.t.Helper()
	var status schemas.Status
	r.request("rebound.status", nil, nil, &status)
	return status.Reports
}

func TestReport_OfSuccessEndsTheOperation(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, working("20s"))}, handlers.Config{Policies: policySet(t, working("20s"))})
	r.submit("retry.submit.billing.charge", map[string]string{"ce-delivery": "publish", "X-Tenant": "7"}, `{"id":1}`)
	m := r.job("RETRY_WORK")
	h := m.Headers()
	if m.Subject() != "retry.work.billing.charge" || string(m.Data()) != `{"id":1}` || h.Get("X-Tenant") != "7" || h.Get(events.HeaderAttempt) != "2" ||
		h.Get(events.HeaderReport) != "retry.report.billing.charge" || h.Get(events.HeaderTimeout) == "" || len(h.Get(events.HeaderToken)) < 20 || h.Get(events.HeaderState) != "" || h.Get(events.HeaderWork) != "" {
		t.Errorf("the worker got %q on %s with headers %v", m.Data(), m.Subject(), h)
	}
	if n := r.count("RETRY", "retry.parked.>"); n != 1 {
		t.Errorf("%d watchdogs stand while the worker works, want 1", n)
	}
	r.say(reportOn(m, "success"))
	got := r.awaitOutcomes(1, 10*time.Second)[0]
	if got.Outcome != events.RetrySuccess || got.Attempts != 2 || got.Target != "retry.work.billing.charge" || got.DurationMs <= 0 {
		t.Errorf("outcome is %+v, want a retrySuccess after 2 attempts at retry.work.billing.charge", got)
	}
	r.awaitEmpty()
}

func TestReport_OfFailureIsAnAttemptLikeAnyOther(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, working("20s"))})
	r.submit("retry.submit.billing.charge", publish, "x")
	first := r.job("RETRY_WORK")
	reported := time.Now()
	r.say(reportOn(first, "failure", micro.ErrorCodeHeader, "503", micro.ErrorHeader, "busy", "Retry-After", "1"))
	second := r.job("RETRY_WORK")
	if waited := time.Since(reported); waited < 900*time.Millisecond {
		t.Errorf("the worker asked for 1s and was left alone for %s", waited)
	}
	if a := second.Headers().Get(events.HeaderAttempt); a != "3" || second.Headers().Get(events.HeaderToken) == first.Headers().Get(events.HeaderToken) {
		t.Errorf("the second message is of attempt %s with the token of the first or not, want attempt 3 with its own", a)
	}
	r.say(reportOn(second, "failure", micro.ErrorCodeHeader, "404", micro.ErrorHeader, "gone"))
	got := r.awaitOutcomes(1, 10*time.Second)[0]
	if got.Outcome != events.RetryFailed || got.Reason != events.ReasonNotRetryable || got.Error.Code != "404" {
		t.Errorf("outcome is %+v, want retryFailed, not retryable with code 404", got)
	}
	history := r.deadLetters()[0].State.History
	if len(history) != 3 || history[1].Code != "503" || history[1].Error != "busy" || history[1].Number != 2 || history[1].DurationMs <= 0 {
		t.Errorf("the history is %+v, want the failure that was submitted, a 503 and a 404", history)
	}
	r.awaitEmpty()
}

func TestReport_SilentWorkerFailsTheAttempt(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, working("400ms")+"\nbilling: {operations: {charge: {maxAttempts: 100}}}\n")})
	r.submit("retry.submit.billing.charge", publish, "x")
	first := r.job("RETRY_WORK")
	next := r.job("RETRY_WORK")
	if code := r.sayTo(reportOn(first, "success")); code != "409" {
		t.Errorf("a report on an attempt whose watchdog fired was answered with code %q, want 409", code)
	}
	for r.sayTo(reportOn(next, "success")) != "" { // this test, too, may have been silent for too long
		next = r.job("RETRY_WORK")
	}
	if got := r.awaitOutcomes(1, 10*time.Second)[0]; got.Outcome != events.RetrySuccess || strconv.Itoa(got.Attempts) != next.Headers().Get(events.HeaderAttempt) || got.Attempts < 3 {
		t.Errorf("outcome is %+v, want a retrySuccess of attempt %s, the third or a later one", got, next.Headers().Get(events.HeaderAttempt))
	}

	r.submit("retry.submit.billing.refund", publish, "x")
	got := r.awaitOutcomes(2, 20*time.Second)[1]
	if got.Outcome != events.RetryFailed || got.Reason != events.ReasonExhausted || got.Error.Code != "worker_timeout" || got.Rule != "timeout" {
		t.Errorf("outcome is %+v, want retryFailed, exhausted with code worker_timeout", got)
	}
	r.awaitEmpty()
}

func TestReport_HeartbeatExtendsTheWatchdog(t *testing.T) {
	t.Parallel()
	const watchdog, beat = 6 * time.Second, 500 * time.Millisecond
	r := newRig(t, handlers.Config{Policies: policySet(t, working(watchdog.String()))})
	r.submit("retry.submit.billing.charge", publish, "x")
	m := r.job("RETRY_WORK")
	given := time.Now()
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for n := 1; time.Since(given) < watchdog+3*beat; n++ {
		<-tick.C
		if code := r.sayTo(reportOn(m, "working")); code != "" {
			t.Fatalf("heartbeat %d was answered with code %s, want it accepted", n, code)
		}
	}
	if n := r.count("RETRY_WORK", ">"); n != 0 {
		t.Errorf("%d more attempts were made while the worker was alive, want none", n)
	}
	r.say(reportOn(m, "success"))
	if got := r.awaitOutcomes(1, 10*time.Second)[0]; got.Outcome != events.RetrySuccess || got.Attempts != 2 || got.DurationMs < float64(watchdog.Milliseconds()) {
		t.Errorf("outcome is %+v, want a retrySuccess of attempt 2 after more than %v", got, watchdog)
	}
	r.awaitEmpty()
}

func TestReport_ThatNobodyWaitsForIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, working("20s"))})
	r.submit("retry.submit.billing.charge", publish, "x")
	first := r.job("RETRY_WORK")
	r.say(reportOn(first, "failure", micro.ErrorCodeHeader, "503"))
	m := r.job("RETRY_WORK")
	const foreign = "11111111111111111111111111111111"
	if _, err := r.js.Publish(t.Context(), "retry.parked.normal.billing.charge."+foreign, []byte("x")); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		report *nats.Msg
		code   string
	}{
		"what is no operation":   {reportOn(m, "success", events.HeaderID, foreign), "404"},
		"an old attempt":         {reportOn(first, "success"), "409"},
		"an attempt to come":     {reportOn(m, "success", events.HeaderAttempt, "9"), "404"},
		"a forged token":         {reportOn(m, "success", events.HeaderToken, first.Headers().Get(events.HeaderToken)), "403"},
		"a forged heartbeat":     {reportOn(m, "working", events.HeaderToken, "guessed"), "403"},
		"an unknown operation":   {reportOn(m, "success", events.HeaderID, "00000000000000000000000000000000"), "404"},
		"no operation's id":      {reportOn(m, "success", events.HeaderID, "*"), "400"},
		"no token":               {reportOn(m, "success", events.HeaderToken, ""), "400"},
		"a result of its own":    {reportOn(m, "perhaps"), "400"},
		"a success with a code":  {reportOn(m, "success", micro.ErrorCodeHeader, "503"), "400"},
		"an attempt that is NaN": {reportOn(m, "success", events.HeaderAttempt, "NaN"), "400"},
		"nothing at all":         {&nats.Msg{Subject: "retry.report.billing.charge", Header: nats.Header{}}, "400"},
		"broken data":            {&nats.Msg{Subject: "retry.report.billing.charge", Header: nats.Header{}, Data: []byte(`{"id":`)}, "400"},
	} {
		refused := r.reports().Refused
		stored := &nats.Msg{Subject: c.report.Subject, Header: c.report.Header, Data: c.report.Data}
		if code := r.sayTo(c.report); code != c.code {
			t.Errorf("a report on %s was answered with code %q, want %s", name, code, c.code)
		}
		r.say(stored)
		testkit.Eventually(t, 5*time.Second, "the refusals of "+name+" being counted", func() bool { return r.reports().Refused == refused+2 })
	}
	stream, err := r.js.Stream(t.Context(), "RETRY")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSubject("retry.parked.normal.billing.charge."+foreign)); err != nil {
		t.Fatal(err)
	}
	if n := len(r.deadLetters()); n != 0 {
		t.Errorf("refused reports made %d dead letters, want none", n)
	}
	r.say(reportOn(m, "success"))
	if got := r.awaitOutcomes(1, 10*time.Second)[0]; got.Outcome != events.RetrySuccess || got.Attempts != 3 {
		t.Errorf("outcome is %+v, want a retrySuccess after 3 attempts", got)
	}
	if code := r.sayTo(reportOn(m, "success")); code != "404" {
		t.Errorf("a report on an operation that ended was answered with code %q, want 404", code)
	}
	r.awaitEmpty()
}

func TestReport_ThatComesTwiceCountsOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, working("20s"))}, handlers.Config{Policies: policySet(t, working("20s"))})
	const operations = 50
	for range operations {
		r.submit("retry.submit.billing.charge", publish, "x")
	}
	for range operations {
		m := r.job("RETRY_WORK")
		for range 3 {
			r.say(reportOn(m, "success"))
		}
	}
	for _, got := range r.awaitOutcomes(operations, 20*time.Second) {
		if got.Outcome != events.RetrySuccess || got.Attempts != 2 {
			t.Errorf("outcome is %+v, want a retrySuccess after 2 attempts", got)
		}
	}
	r.awaitEmpty()
	if n := r.count("RETRY_OUTCOMES", "retry.outcome.>"); n != operations {
		t.Errorf("there are %d outcomes of %d operations", n, operations)
	}
}

func TestReport_MayBeACloudEvent(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, working("20s"))})
	r.submit("retry.submit.billing.charge", publish, "x")
	m := r.job("RETRY_WORK")
	attempt, err := strconv.Atoi(m.Headers().Get(events.HeaderAttempt))
	if err != nil {
		t.Fatal(err)
	}
	report := events.Report{ID: m.Headers().Get(events.HeaderID), Attempt: attempt, Token: m.Headers().Get(events.HeaderToken), Result: events.Failed, Code: "404", Error: "gone"}
	msg, err := wire.EncodeReport(m.Headers().Get(events.HeaderReport), report, wire.Envelope{Source: "/worker", ID: "1", Time: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	r.say(msg)
	if got := r.awaitOutcomes(1, 10*time.Second)[0]; got.Outcome != events.RetryFailed || got.Error.Code != "404" || got.Error.Message != "gone" {
		t.Errorf("outcome is %+v, want retryFailed with code 404", got)
	}
	r.awaitEmpty()
}

func TestPublisher_PublishesToTheUsersStream(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if _, err := r.js.CreateStream(context.Background(), jetstream.StreamConfig{Name: "JOBS", Subjects: []string{"jobs.>", "retry.work.>"}}); err != nil {
		t.Fatal(err)
	}
	r.start(handlers.Config{Policies: policySet(t, working("20s"))})
	r.submit("retry.submit.billing.charge", publish, "default")
	r.say(reportOn(r.job("JOBS"), "success"))
	r.submit("retry.submit.billing.charge", map[string]string{"ce-delivery": "publish", "ce-target": "jobs.charge"}, "named")
	m := r.job("JOBS")
	if m.Subject() != "jobs.charge" || string(m.Data()) != "named" {
		t.Errorf("the worker got %q on %s, want the operation on jobs.charge", m.Data(), m.Subject())
	}
	r.say(reportOn(m, "success"))
	r.awaitOutcomes(2, 10*time.Second)
	if _, err := r.js.Stream(context.Background(), "RETRY_WORK"); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("looking for RETRY_WORK says %v, want that it was not made", err)
	}
	r.awaitEmpty()
}

func TestPublisher_TargetThatNoStreamCapturesFailsTheAttemptIfThePolicySaysSo(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, "default: {maxAttempts: 3, baseDelay: 20ms, jitterType: none, noResponders: fail}")})
	r.submit("retry.submit.billing.charge", map[string]string{"ce-delivery": "publish", "ce-target": "jobs.charge"}, "x")
	got := r.awaitOutcomes(1, 20*time.Second)[0]
	if got.Outcome != events.RetryFailed || got.Reason != events.ReasonExhausted || got.Error.Code != "no_stream" || got.Attempts != 3 {
		t.Errorf("outcome is %+v, want retryFailed after 3 attempts with code no_stream", got)
	}
	r.awaitEmpty()
}

func TestBreakers_CountTheReportsOfWorkersAtAnyInstance(t *testing.T) {
	t.Parallel()
	policies := policySet(t, `default: {maxAttempts: 2, baseDelay: 20ms, jitterType: none, attemptTimeout: 10m,
  enableCircuitBreaker: true, circuitBreakerThreshold: 3, circuitBreakerTimeout: 1s, halfOpenMaxRequests: 1, halfOpenSuccesses: 1}`)
	r := newRig(t, handlers.Config{Policies: policies}, handlers.Config{Policies: policies})
	const operations = 3
	given := make([]jetstream.Msg, operations)
	for i := range given {
		r.submit("retry.submit.billing.charge", publish, "x")
		given[i] = r.job("RETRY_WORK")
	}
	for _, m := range given {
		r.say(reportOn(m, "failure", micro.ErrorCodeHeader, "503"))
	}
	awaitBreaker := func(to string) {
		t.Helper()
		testkit.Eventually(t, 20*time.Second, "the breaker being "+to, func() bool {
			for _, m := range r.messages("RETRY_OUTCOMES", "retry.event.breakerChanged.>") {
				if strings.Contains(string(m.Data), `"to":"`+to+`"`) {
					return true
				}
			}
			return false
		})
	}
	awaitBreaker("OPEN")
	r.awaitOutcomes(operations, 20*time.Second)
	for range operations {
		r.submit("retry.submit.billing.charge", publish, "x")
	}
	probe := r.job("RETRY_WORK")
	awaitBreaker("HALF_OPEN")
	testkit.Eventually(t, 10*time.Second, "the others being held while the probe is with its worker", func() bool {
		return r.count("RETRY", "retry.held.>") == operations-1
	})
	if n := r.count("RETRY_WORK", ">"); n != 0 {
		t.Errorf("%d more operations were given out while the one probe was with its worker, want none", n)
	}
	r.say(reportOn(probe, "success"))
	awaitBreaker("CLOSED")
	for range operations - 1 {
		r.say(reportOn(r.job("RETRY_WORK"), "success"))
	}
	r.awaitOutcomes(2*operations, 10*time.Second)
	r.awaitEmpty()
}
