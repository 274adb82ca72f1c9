package handlers_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/deadletter"
	"github.com/rebound-mq/rebound/internal/opstore"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/scheduler/gate"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

func TestMain(m *testing.M) { testkit.Main(m, testkit.ProxyLeaks()...) }

// unhindered are limits of backpressure that a busy machine does not reach.
var unhindered = gate.Limits{StoreDelay: time.Hour}

// quick is a policy that makes tests short, and lets every operation go on its own.
const quick = `
default:
  maxAttempts: 4
  baseDelay: 20ms
  maxDelay: 1s
  backoffStrategy: exponential
  jitterType: none
  attemptTimeout: 20s
  enableAdaptiveBackoff: false
  enableCircuitBreaker: false
`

// rig is a NATS server with one instance of the service and a target.
type rig struct {
	t       *testing.T
	url     string
	nc      *nats.Conn
	js      jetstream.JetStream
	letters *deadletter.Letters
	// domain is the domain of the server's JetStream, empty for the default.
	domain string
}

// newRig starts a server and an instance for each configuration.
func newRig(t *testing.T, configs ...handlers.Config) *rig {
	t.Helper()
	server := testkit.Server(t)
	r := connect(t, server.ClientURL())
	for _, c := range configs {
		r.start(c)
	}
	return r
}

func connect(t *testing.T, url string) *rig {
	t.Helper()
	nc := testkit.Connect(t, url)
	js := testkit.JetStream(t, nc)
	return &rig{t: t, url: url, nc: nc, js: js, letters: deadletter.New(js, "")}
}

// start runs one instance on a connection of its own until the test ends.
func (r *rig) start(c handlers.Config) *handlers.Service {
	r.t.Helper()
	if c.Policies == nil {
		c.Policies = policySet(r.t, quick)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if c.Backpressure == (gate.Limits{}) {
		c.Backpressure = unhindered
	}
	nc := testkit.Connect(r.t, r.url)
	if r.domain != "" {
		c.JetStream = testkit.JetStreamIn(r.t, nc, r.domain)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := handlers.Start(ctx, nc, c)
	if err != nil {
		r.t.Fatalf("starting the service: %v", err)
	}
	r.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			r.t.Errorf("stopping the service: %v", err)
		}
	})
	return s
}

func policySet(t testing.TB, yaml string) *policy.Set {
	t.Helper()
	set, err := policy.Parse("test.yaml", []byte(yaml))
	if err != nil {
		t.Fatalf("the test's policies are invalid: %v", err)
	}
	return set
}

// target registers a NATS micro endpoint that answers with handle's error code
// and description, or with success for an empty code. It counts calls.
func (r *rig) target(subject string, handle func(call int, req micro.Request) (code, description string, h micro.Headers)) *atomic.Int64 {
	r.t.Helper()
	var calls atomic.Int64
	service, err := micro.AddService(r.nc, micro.Config{Name: strings.ReplaceAll(subject, ".", "_"), Version: "1.0.0"})
	if err != nil {
		r.t.Fatal(err)
	}
	err = service.AddEndpoint("e", micro.HandlerFunc(func(req micro.Request) {
		code, description, h := handle(int(calls.Add(1)), req)
		if code == "" {
			_ = req.Respond(nil)
			return
		}
		_ = req.Error(code, description, nil, micro.WithHeaders(h))
	}), micro.WithEndpointSubject(subject))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = service.Stop() })
	return &calls
}

// submission returns a message with that header.
func submission(subject string, h map[string]string, data string) *nats.Msg {
	m := nats.NewMsg(subject)
	m.Data = []byte(data)
	for k, v := range h {
		m.Header[k] = []string{v}
	}
	return m
}

func (r *rig) submit(subject string, h map[string]string, data string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := r.js.PublishMsg(ctx, submission(subject, h, data)); err != nil {
		r.t.Fatalf("submitting to %s: %v", subject, err)
	}
}

// submitAll submits n operations at once, and waits until all are stored.
func (r *rig) submitAll(n int, message func(i int) (subject string, h map[string]string)) {
	r.t.Helper()
	acks := make([]jetstream.PubAckFuture, n)
	for i := range n {
		subject, h := message(i)
		var err error
		if acks[i], err = r.js.PublishMsgAsync(submission(subject, h, "x"), jetstream.WithStallWait(time.Minute)); err != nil {
			r.t.Fatalf("submitting to %s: %v", subject, err)
		}
	}
	for _, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			r.t.Fatalf("submitting to %s: %v", ack.Msg().Subject, err)
		}
	}
}

// trySubmit submits an operation with an id and reports whether it is stored.
func (r *rig) trySubmit(subject, id string) bool {
	m := submission(subject, map[string]string{"ce-specversion": "1.0", "ce-id": id, "ce-source": "/s", "ce-type": events.TypeFailed}, "")
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err := r.js.PublishMsg(ctx, m, jetstream.WithMsgID(id))
	return err == nil
}

// outcomes reads every outcome so far.
func (r *rig) outcomes() []events.Outcome {
	r.t.Helper()
	var out []events.Outcome
	for _, m := range r.messages("RETRY_OUTCOMES", "retry.outcome.>") {
		var o events.Outcome
		if err := json.Unmarshal(m.Data, &o); err != nil {
			r.t.Fatalf("outcome on %s is no JSON: %v", m.Subject, err)
		}
		out = append(out, o)
	}
	return out
}

// awaitOutcomes waits until there are n outcomes and returns them.
func (r *rig) awaitOutcomes(n int, within time.Duration) []events.Outcome {
	r.t.Helper()
	testkit.Eventually(r.t, within, fmt.Sprintf("%d outcomes", n), func() bool { return r.count("RETRY_OUTCOMES", "retry.outcome.>") >= n })
	got := r.outcomes()
	if len(got) != n {
		r.t.Fatalf("got %d outcomes, want %d: %+v", len(got), n, got)
	}
	return got
}

func (r *rig) count(stream, filter string) int {
	r.t.Helper()
	s, err := r.js.Stream(context.Background(), stream)
	if err != nil {
		return 0
	}
	info, err := s.Info(context.Background(), jetstream.WithSubjectFilter(filter))
	if err != nil {
		return 0
	}
	n := 0
	for _, c := range info.State.Subjects {
		n += int(c)
	}
	return n
}

func (r *rig) messages(stream, filter string) []*jetstream.RawStreamMsg {
	r.t.Helper()
	ctx := context.Background()
	s, err := r.js.Stream(ctx, stream)
	if err != nil {
		r.t.Fatal(err)
	}
	info, err := s.Info(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	var out []*jetstream.RawStreamMsg
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq && info.State.Msgs > 0; seq++ {
		switch m, err := s.GetMsg(ctx, seq); {
		case errors.Is(err, jetstream.ErrMsgNotFound): // it is deleted
		case err != nil:
			r.t.Fatalf("reading message %d of %s: %v", seq, stream, err)
		case matches(filter, m.Subject):
			out = append(out, m)
		}
	}
	return out
}

// overhear subscribes to what is stored on a subject from now on.
func (r *rig) overhear(subject string) *nats.Subscription {
	r.t.Helper()
	sub, err := r.nc.SubscribeSync(subject)
	if err == nil {
		err = r.nc.Flush()
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return sub
}

// fires returns when the next message that is overheard is to be fired.
func (r *rig) fires(sub *nats.Subscription) time.Time {
	r.t.Helper()
	m, err := sub.NextMsg(20 * time.Second)
	if err != nil {
		r.t.Fatalf("nothing comes on %s: %v", sub.Subject, err)
	}
	at, ok := opstore.FiresAt(&jetstream.RawStreamMsg{Header: m.Header})
	if !ok {
		r.t.Fatalf("what comes on %s is no schedule: %v", m.Subject, m.Header)
	}
	return at
}

func matches(filter, subject string) bool {
	return strings.HasPrefix(subject, strings.TrimSuffix(filter, ">"))
}

// awaitEmpty waits until nothing waits or is in flight any more.
func (r *rig) awaitEmpty() {
	r.t.Helper()
	testkit.Eventually(r.t, 10*time.Second, "an empty intake and nothing waiting", func() bool {
		return r.count("RETRY_INTAKE", ">") == 0 && r.count("RETRY", ">") == 0
	})
}

func (r *rig) deadLetters() []*events.DeadLetter {
	r.t.Helper()
	var out []*events.DeadLetter
	for d, err := range r.letters.List(context.Background(), events.DeadLetterFilter{}) {
		if err != nil {
			r.t.Fatalf("listing the dead letters: %v", err)
		}
		out = append(out, d)
	}
	return out
}

func TestDelivery_RepeatsUntilTheOperationSucceeds(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{})
	var mu sync.Mutex
	var headers []micro.Headers
	var bodies []string
	r.target("billing.charge", func(call int, req micro.Request) (string, string, micro.Headers) {
		mu.Lock()
		defer mu.Unlock()
		headers, bodies = append(headers, req.Headers()), append(bodies, string(req.Data()))
		if call < 3 {
			return "503", "busy", nil
		}
		return "", "", nil
	})
	r.submit("retry.submit.billing.charge", map[string]string{"X-Tenant": "7", "ce-errorcode": "timeout"}, `{"id":1}`)

	got := r.awaitOutcomes(1, 10*time.Second)[0]
	if got.Outcome != events.RetrySuccess || got.Attempts != 4 || got.Target != "billing.charge" || got.Service != "billing" || got.Operation != "charge" {
		t.Errorf("outcome is %+v, want a retrySuccess after 4 attempts", got)
	}
	mu.Lock()
	defer mu.Unlock()
	for i, h := range headers {
		if bodies[i] != `{"id":1}` || h.Get("X-Tenant") != "7" || h.Get(events.HeaderAttempt) != strconv.Itoa(i+2) ||
			h.Get(events.HeaderID) != got.ID || h.Get(events.HeaderState) != "" || h.Get("ce-id") != got.EventID {
			t.Errorf("delivery %d had body %q and headers %v", i+1, bodies[i], h)
		}
	}
	if n := r.count("RETRY_OUTCOMES", "retry.event.retryScheduled.billing.charge"); n != 3 {
		t.Errorf("got %d retryScheduled events, want 3", n)
	}
	r.awaitEmpty()
}

func TestDeadLetter_OfAnExhaustedOperationHasItsHistory(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{})
	calls := r.target("billing.charge", func(int, micro.Request) (string, string, micro.Headers) { return "503", "busy", nil })
	r.submit("retry.submit.billing.charge", map[string]string{"ce-errorcode": "500", "X-Tenant": "7"}, "bytes\x00\xff")

	got := r.awaitOutcomes(1, 10*time.Second)[0]
	if got.Outcome != events.RetryFailed || got.Reason != events.ReasonExhausted || got.Attempts != 4 || got.Error.Code != "503" {
		t.Errorf("outcome is %+v, want retryFailed, exhausted after 4 attempts with code 503", got)
	}
	if calls.Load() != 3 {
		t.Errorf("the target was called %d times, want 3", calls.Load())
	}
	d := r.deadLetters()[0]
	if string(d.Data) != "bytes\x00\xff" || wire.HeaderValue(d.Header, "X-Tenant") != "7" || d.SubmittedTo == "" && d.State == nil {
		t.Errorf("the dead letter lost the submission: %+v", d)
	}
	if len(d.State.History) != 4 {
		t.Fatalf("the history has %d attempts, want 4: %+v", len(d.State.History), d.State.History)
	}
	for i, a := range d.State.History {
		if a.Number != i+1 || a.At.IsZero() || a.Class == "" || i < 3 && (a.DelayMs == 0 || a.Strategy == "") || i > 0 && (a.Code != "503" || a.Error != "busy" || a.DurationMs <= 0) {
			t.Errorf("attempt %d is recorded as %+v", i+1, a)
		}
	}
	r.awaitEmpty()
}

func TestDelivery_EachFailureOfTheTargetHasItsCodeAndReason(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, `
default: {maxAttempts: 2, baseDelay: 10ms, jitterType: none, attemptTimeout: 1m, noResponders: fail}
t: {operations: {silent: {attemptTimeout: 300ms}, slow: {attemptTimeout: 10s}}}
`)})
	silent := func(micro.Request) {}
	for subject, answer := range map[string]func(micro.Request){
		"t.notfound": func(req micro.Request) { _ = req.Error("404", "no such order", nil) },
		"t.busy":     func(req micro.Request) { _ = req.Error("503", "busy", nil) },
		"t.silent":   silent,
		"t.slow": func(req micro.Request) {
			// A reply is awaited for a tenth longer than the timeout: 1 s.
			time.AfterFunc(10050*time.Millisecond, func() { _ = req.Respond(nil) })
		},
	} {
		service, err := micro.AddService(r.nc, micro.Config{Name: strings.ReplaceAll(subject, ".", "_"), Version: "1.0.0"})
		if err != nil {
			t.Fatal(err)
		}
		if err := service.AddEndpoint("e", micro.HandlerFunc(answer), micro.WithEndpointSubject(subject)); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = service.Stop() }()
	}
	want := map[string]string{"notfound": "404", "busy": "503", "silent": "timeout", "nobody": "no_responders"}
	for operation := range want {
		r.submit("retry.submit.t."+operation, nil, "x")
	}
	for _, got := range r.awaitOutcomes(len(want), 20*time.Second) {
		reason := events.ReasonExhausted
		if got.Operation == "notfound" {
			reason = events.ReasonNotRetryable
		}
		if got.Outcome != events.RetryFailed || got.Error == nil || got.Error.Code != want[got.Operation] || got.Reason != reason {
			t.Errorf("%s ended as %s, reason %s, error %+v; want code %s, reason %s", got.Operation, got.Outcome, got.Reason, got.Error, want[got.Operation], reason)
		}
	}
	// On a machine that stands still just then the reply is later than it is awaited.
	var last events.Outcome
	for try := 1; try <= 4 && (last.Error == nil || last.Error.Code != "slow_reply"); try++ {
		r.submit("retry.submit.t.slow", event(fmt.Sprint("slow-", try), "normal"), "x")
		last = r.awaitOutcomes(len(want)+try, 20*time.Second)[len(want)+try-1]
	}
	if last.Outcome != events.RetryFailed || last.Error == nil || last.Error.Code != "slow_reply" || last.Reason != events.ReasonExhausted {
		t.Errorf("slow ended as %s, reason %s, error %+v; want code slow_reply, reason %s", last.Outcome, last.Reason, last.Error, events.ReasonExhausted)
	}
}

func TestDelivery_RetryAfterOfTheTargetIsHonoured(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{})
	var at [2]time.Time
	r.target("billing.charge", func(call int, _ micro.Request) (string, string, micro.Headers) {
		at[min(call, 2)-1] = time.Now()
		if call == 1 {
			return "429", "slow down", micro.Headers{"Retry-After": {"1"}}
		}
		return "", "", nil
	})
	r.submit("retry.submit.billing.charge", nil, "x")
	r.awaitOutcomes(1, 20*time.Second)
	if waited := at[1].Sub(at[0]); waited < time.Second {
		t.Errorf("the target asked for 1 s and was left alone for %s", waited)
	}
	// The first is the decision on the submission.
	decisions := r.messages("RETRY_OUTCOMES", "retry.event.retryScheduled.>")
	var scheduled events.Scheduled
	if err := json.Unmarshal(decisions[len(decisions)-1].Data, &scheduled); err != nil {
		t.Fatal(err)
	}
	if len(decisions) != 2 || scheduled.DelayMs != 1000 {
		t.Errorf("%d times it was decided, the last time on %v ms, want twice and the 1 s that the target asked for", len(decisions), scheduled.DelayMs)
	}
}

func TestDelivery_OperationPastItsDeadlineIsNotAttempted(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{})
	calls := r.target("billing.charge", func(int, micro.Request) (string, string, micro.Headers) { return "", "", nil })
	r.submit("retry.submit.billing.charge", map[string]string{"ce-deadline": time.Now().Add(-time.Second).UTC().Format(time.RFC3339)}, "x")
	if got := r.awaitOutcomes(1, 10*time.Second)[0]; got.Reason != events.ReasonDeadline || calls.Load() != 0 {
		t.Errorf("ended with reason %s after %d calls, want deadline after none", got.Reason, calls.Load())
	}
}

func TestDelivery_ParkedOperationsComeBackInTime(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, `
default: {maxAttempts: 2, baseDelay: 1500ms, maxDelay: 2s, jitterType: none}
`)})
	var came atomic.Int64
	r.target("billing.charge", func(int, micro.Request) (string, string, micro.Headers) {
		came.Store(time.Now().UnixNano())
		return "", "", nil
	})
	parked := r.overhear("retry.parked.>")
	r.submit("retry.submit.billing.charge", nil, "x")
	fires := r.fires(parked)
	r.awaitOutcomes(1, 20*time.Second)
	var scheduled events.Scheduled
	if err := json.Unmarshal(r.messages("RETRY_OUTCOMES", "retry.event.>")[0].Data, &scheduled); err != nil {
		t.Fatal(err)
	}
	if early := scheduled.Due.Sub(time.Unix(0, came.Load())); early > 0 {
		t.Errorf("the operation came back %s before it was due", early)
	}
	// The server fires it early enough for its grain of 250 ms. That the rest of the delay
	// is no longer than it must be is for TestModel_ParkedOperationsComeBackInTime, which
	// has a clock of its own.
	if early := scheduled.Due.Sub(fires); early != scheduler.EarlyArming {
		t.Errorf("it was to be fired %s before it was due, want %s", early, scheduler.EarlyArming)
	}
}

func TestIntake_UnacceptableSubmissionBecomesADeadLetter(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{})
	calls := r.target("a.b", func(int, micro.Request) (string, string, micro.Headers) { return "", "", nil })
	structured := map[string]string{"content-type": "application/cloudevents+json"}
	event := func(k, v string) map[string]string {
		return map[string]string{"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": events.TypeFailed, k: v}
	}
	for i, c := range []struct {
		subject string
		header  map[string]string
		data    string
		detail  string
	}{
		{"retry.submit.a", nil, "", "it needs two"},
		{"retry.submit.a.b.c", nil, "x", "it needs two"},
		{"retry.submit.a.b", structured, `{"specversion":`, "not valid JSON"},
		{"retry.submit.a.b", event("ce-id", ""), "x", "id"},
		{"retry.submit.a.b", event("ce-attempt", "-1"), "x", "attempt"},
		{"retry.submit.a.b", event("ce-service", "a.b"), "x", "service"},
		{"retry.submit.a.b", event("ce-errorcode", strings.Repeat("c", 10_000)), "x", "errorcode"},
		{"retry.submit.a.b", event("ce-target", "$SYS.>"), "x", "target"},
		{"retry.submit.a.b", event("ce-target", "$JS.API.STREAM.LIST"), "x", "target"},
		{"retry.submit.a.b", event("ce-target", "_INBOX.x"), "x", "target"},
		{"retry.submit.a.b", event("ce-target", "retry.submit.x.y"), "x", "target"},
		{"retry.submit.a.b", event("ce-target", "*"), "x", "target"},
		{"retry.submit.a.b", event("ce-maxattempts", "many"), "x", "maxattempts"},
		{"retry.submit.a.b", nil, strings.Repeat("x", 1<<20-2048), "more than the"},
	} {
		r.submit(c.subject, c.header, c.data)
		outcomes := r.awaitOutcomes(i+1, 10*time.Second)
		got := outcomes[i]
		if got.Outcome != events.RetryFailed || got.Reason != events.ReasonRejected || !strings.Contains(got.Detail, c.detail) {
			t.Errorf("case %d ended as %s, reason %s, detail %q; want rejected, saying %q", i, got.Outcome, got.Reason, got.Detail, c.detail)
		}
		d, err := r.letters.Get(context.Background(), got.ID)
		if err != nil || string(d.Data) != c.data || d.SubmittedTo != c.subject || d.Detail != got.Detail {
			t.Errorf("case %d: dead letter %+v, error %v", i, d, err)
		}
	}
	if calls.Load() != 0 {
		t.Errorf("the target was called %d times with what was rejected", calls.Load())
	}
	r.awaitEmpty()
}

func TestIntake_AcceptsAnEmptyPayload(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{})
	r.target("a.b", func(int, micro.Request) (string, string, micro.Headers) { return "", "", nil })
	r.submit("retry.submit.a.b", nil, "")
	if got := r.awaitOutcomes(1, 10*time.Second)[0]; got.Outcome != events.RetrySuccess {
		t.Errorf("an empty payload ended as %+v", got)
	}
}

func TestIntake_SecondSubmissionMergesAndTheHigherAttemptWins(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, parkForAnHour+"billing: {maxAttempts: 9}\n")})
	event := func(attempt string) map[string]string {
		return map[string]string{"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": events.TypeFailed, "ce-attempt": attempt}
	}
	for _, n := range []string{"1", "5", "3", "1"} {
		r.submit("retry.submit.billing.charge", event(n), "x")
		testkit.Eventually(t, 5*time.Second, "an empty intake", func() bool { return r.count("RETRY_INTAKE", ">") == 0 })
	}
	waiting := r.messages("RETRY", "retry.parked.>")
	if len(waiting) != 1 {
		t.Fatalf("%d of the operation wait, want 1", len(waiting))
	}
	op, err := wire.ReadState(waiting[0].Header)
	if err != nil {
		t.Fatal(err)
	}
	if op.Attempt != 5 {
		t.Errorf("the operation waits after attempt %d, want 5", op.Attempt)
	}
}

func TestIntake_SubmissionOfAnOperationInFlightMerges(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{})
	reached, release := make(chan struct{}, 10), make(chan struct{})
	calls := r.target("billing.charge", func(int, micro.Request) (string, string, micro.Headers) {
		reached <- struct{}{}
		<-release
		return "", "", nil
	})
	event := map[string]string{"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": events.TypeFailed}
	r.submit("retry.submit.billing.charge", event, "x")
	<-reached
	r.submit("retry.submit.billing.charge", event, "x")
	testkit.Eventually(t, 5*time.Second, "an empty intake", func() bool { return r.count("RETRY_INTAKE", ">") == 0 })
	close(release)
	r.awaitOutcomes(1, 10*time.Second)
	r.awaitEmpty()
	if calls.Load() != 1 {
		t.Errorf("the target was called %d times, want once", calls.Load())
	}
}

func TestService_TwoInstancesShareTheWorkWithoutDoubleOutcomes(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{}, handlers.Config{})
	var mu sync.Mutex
	seen := map[string]int{}
	r.target("billing.charge", func(_ int, req micro.Request) (string, string, micro.Headers) {
		mu.Lock()
		defer mu.Unlock()
		key := req.Headers().Get(events.HeaderID) + "/" + req.Headers().Get(events.HeaderAttempt)
		seen[key]++
		if strings.HasSuffix(key, "/2") {
			return "503", "busy", nil
		}
		return "", "", nil
	})
	const n = 400
	for i := range n {
		r.submit("retry.submit.billing.charge", nil, strconv.Itoa(i))
	}
	ids := map[string]int{}
	// Every first redelivery fails, so the governor paces the key for a while.
	for _, o := range r.awaitOutcomes(n, 2*time.Minute) {
		ids[o.ID]++
		if o.Outcome != events.RetrySuccess || o.Attempts != 3 {
			t.Errorf("operation %s ended as %s after %d attempts, want retrySuccess after 3", o.ID, o.Outcome, o.Attempts)
		}
	}
	if len(ids) != n {
		t.Errorf("%d operations have an outcome, want %d", len(ids), n)
	}
	r.awaitEmpty()
	mu.Lock()
	defer mu.Unlock()
	for key, count := range seen {
		if count != 1 {
			t.Errorf("attempt %s was made %d times", key, count)
		}
	}
}

func TestReplay_IsIdempotentAndKeepsTheHistory(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{})
	var healthy atomic.Bool
	calls := r.target("billing.charge", func(int, micro.Request) (string, string, micro.Headers) {
		if healthy.Load() {
			return "", "", nil
		}
		return "503", "busy", nil
	})
	r.submit("retry.submit.billing.charge", map[string]string{"X-Tenant": "7"}, "x")
	r.awaitOutcomes(1, 10*time.Second)
	d := r.deadLetters()[0]

	// It fails once more, so the history of both runs shows.
	if err := r.letters.Replay(context.Background(), d); err != nil {
		t.Fatal(err)
	}
	r.awaitOutcomes(2, 10*time.Second)
	testkit.Eventually(t, 5*time.Second, "the dead letter of the replay", func() bool {
		all := r.deadLetters()
		return len(all) == 1 && all[0].State.Replay == 1
	})
	d = r.deadLetters()[0]
	if n := len(d.State.History); n != 4+4 {
		t.Errorf("the history has %d attempts after a replay, want the 4 before and the 4 after: %+v", n, d.State.History)
	}

	healthy.Store(true)
	before := calls.Load()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := r.letters.Replay(context.Background(), d); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	outcomes := r.awaitOutcomes(3, 10*time.Second)
	r.awaitEmpty()
	if got := outcomes[2]; got.Outcome != events.RetrySuccess || got.Replay != 2 || got.Attempts != 1 || got.ID != d.ID {
		t.Errorf("the replay ended as %+v, want a retrySuccess of replay 2 at its first attempt", got)
	}
	if n := calls.Load() - before; n != 1 {
		t.Errorf("replaying the same dead letter 8 times at once called the target %d times, want once", n)
	}
	if left := r.deadLetters(); len(left) != 0 {
		t.Errorf("%d dead letters are left after the replay succeeded", len(left))
	}
}

func TestReplay_OfAMissingDeadLetterDoesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{})
	r.submit("retry.submit.a.b", map[string]string{events.HeaderDeadSequence: "77"}, "")
	r.awaitEmpty()
	if got := r.outcomes(); len(got) != 0 {
		t.Errorf("got outcomes %+v, want none", got)
	}
	r.submit("retry.submit.a.b", map[string]string{events.HeaderDeadSequence: "many"}, "")
	if got := r.awaitOutcomes(1, 5*time.Second)[0]; got.Reason != events.ReasonRejected {
		t.Errorf("a replay of a wrong sequence ended with reason %s, want rejected", got.Reason)
	}
}

func TestService_StopGivesBackWhatIsNotBegunAndFinishesWhatIs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first := r.start(handlers.Config{})
	reached, release := make(chan struct{}, 1), make(chan struct{})
	r.target("slow.op", func(call int, _ micro.Request) (string, string, micro.Headers) {
		if call == 1 {
			reached <- struct{}{}
		}
		<-release
		return "", "", nil
	})
	fast := r.target("later.op", func(int, micro.Request) (string, string, micro.Headers) { return "", "", nil })
	r.submit("retry.submit.slow.op", nil, "x")
	<-reached
	r.submit("retry.submit.later.op", map[string]string{"ce-retryafter": "0.45"}, "x")
	testkit.Eventually(t, 5*time.Second, "the second operation being due", func() bool { return r.count("RETRY", "retry.due.normal.later.>") == 1 })

	stopped := make(chan error, 1)
	go func() { stopped <- first.Stop(context.Background()) }()
	testkit.Eventually(t, 5*time.Second, "the instance not being ready", func() bool { return first.Ready() != nil })
	close(release)
	if err := <-stopped; err != nil {
		t.Fatalf("stopping: %v", err)
	}
	outcomes := r.outcomes()
	if len(outcomes) != 1 || outcomes[0].Service != "slow" || fast.Load() != 0 {
		t.Fatalf("after the stop there are outcomes %+v and %d calls of the other target; want one outcome and no call", outcomes, fast.Load())
	}
	r.start(handlers.Config{})
	r.awaitOutcomes(2, 5*time.Second)
	r.awaitEmpty()
}

func TestRecovery_StoredConclusionIsNotMadeAgain(t *testing.T) {
	t.Parallel()
	const lease = 2 * time.Second
	event := map[string]string{"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": events.TypeFailed}
	for _, c := range []struct {
		name string
		// crash stores a conclusion like an instance that died before it acknowledged
		// the due message.
		crash func(r *rig, op *events.Operation)
		want  string
	}{
		{"a success", func(r *rig, op *events.Operation) {
			op.Attempt++
			m, err := wire.EncodeEvent("retry.outcome.retrySuccess.billing.charge", wire.Event{
				Name: events.RetrySuccess, ID: op.OutcomeID(), About: op.About(), Time: time.Now(), Data: op.Ended(events.RetrySuccess, time.Now()),
			})
			if err != nil {
				r.t.Fatal(err)
			}
			if _, err := r.js.PublishMsg(context.Background(), m); err != nil {
				r.t.Fatal(err)
			}
		}, events.RetrySuccess},
		{"a dead letter without an outcome", func(r *rig, op *events.Operation) {
			op.Attempt++
			op.Record(events.Attempt{Number: op.Attempt, At: time.Now(), Code: "503"})
			d := events.DeadLetter{ID: op.ID, Service: "billing", Operation: "charge", Reason: events.ReasonExhausted, DiedAt: time.Now(), State: op, Data: []byte("x")}
			m, err := wire.EncodeDeadLetter(events.Subjects{}, &d)
			if err != nil {
				r.t.Fatal(err)
			}
			if _, err := r.js.PublishMsg(context.Background(), m); err != nil {
				r.t.Fatal(err)
			}
		}, events.RetryFailed},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			calls := r.target("billing.charge", func(int, micro.Request) (string, string, micro.Headers) { return "503", "busy", nil })
			first := r.start(handlers.Config{Lease: lease, Policies: policySet(t, `
default: {maxAttempts: 2, baseDelay: 5s, jitterType: none}
`)})
			r.submit("retry.submit.billing.charge", event, "x")
			testkit.Eventually(t, 5*time.Second, "the operation being parked", func() bool { return r.count("RETRY", "retry.parked.>") == 1 })
			if err := first.Stop(context.Background()); err != nil {
				t.Fatal(err)
			}

			// The instance that dies: it takes the due message and never settles it.
			consumer, err := r.js.Consumer(context.Background(), "RETRY", "rebound-due-normal")
			if err != nil {
				t.Fatal(err)
			}
			m, err := consumer.Next(jetstream.FetchMaxWait(20 * time.Second))
			if err != nil {
				t.Fatal(err)
			}
			op, err := wire.ReadState(m.Headers())
			if err != nil {
				t.Fatal(err)
			}
			c.crash(r, op)

			r.start(handlers.Config{Lease: lease})
			r.awaitEmpty()
			if got := r.awaitOutcomes(1, 5*time.Second)[0]; got.Outcome != c.want {
				t.Errorf("the outcome is %s, want %s", got.Outcome, c.want)
			}
			if calls.Load() != 0 {
				t.Errorf("the attempt was made again %d times", calls.Load())
			}
		})
	}
}

func TestDelivery_AttemptCutShortByACrashIsRepeatedAndMarked(t *testing.T) {
	t.Parallel()
	const lease = 2 * time.Second
	r := newRig(t)
	first := r.start(handlers.Config{Lease: lease, Policies: policySet(t, `
default: {maxAttempts: 2, baseDelay: 5s, jitterType: none}
`)})
	r.submit("retry.submit.billing.charge", nil, "x")
	testkit.Eventually(t, 5*time.Second, "the operation being parked", func() bool { return r.count("RETRY", "retry.parked.>") == 1 })
	if err := first.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	consumer, err := r.js.Consumer(context.Background(), "RETRY", "rebound-due-normal")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := consumer.Next(jetstream.FetchMaxWait(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var repeated atomic.Value
	r.target("billing.charge", func(_ int, req micro.Request) (string, string, micro.Headers) {
		repeated.Store(req.Headers().Get(events.HeaderRepeated) + "/" + req.Headers().Get(events.HeaderAttempt))
		return "", "", nil
	})
	r.start(handlers.Config{Lease: lease})
	r.awaitOutcomes(1, 10*time.Second)
	if repeated.Load() != "true/2" {
		t.Errorf("the repeat was marked %v, want true/2", repeated.Load())
	}
}
