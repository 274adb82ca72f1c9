package client_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/rebound-mq/rebound/client"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/policies"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/schemas"
)

const swift = `
default:
  maxAttempts: 4
  baseDelay: 5ms
  maxDelay: 1s
  backoffStrategy: exponential
  jitterType: none
  attemptTimeout: 20s
  enableAdaptiveBackoff: false
  enableCircuitBreaker: false
`

// published returns the messages published about operations on a subject.
func (r *rig) published(subject string) []*nats.Msg {
	r.t.Helper()
	var all []*nats.Msg
	js := testkit.JetStream(r.t, r.nc)
	for m, err := range streams.Scan(ctx(r.t), js, "RETRY_OUTCOMES", subject, jetstreamext.GetBatchSeq(1)) {
		if err != nil {
			r.t.Fatal(err)
		}
		all = append(all, &nats.Msg{Subject: m.Subject, Header: m.Header, Data: m.Data})
	}
	return all
}

func TestExecute_PublishesTheEventsOfTheService(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift)
	p := &client.Call{Service: "billing", Operation: "charge", Account: "acc", Campaign: "camp", Priority: client.High}
	c := connected(t, client.Config{Conn: r.nc, Policies: policySet(t, swift), Source: "/billing/eu"})
	fn, _ := failing(2, errBusy)
	if _, err := client.Execute(ctx(t), c, p, fn, client.WithEventID("inv-1")); err != nil {
		t.Fatal(err)
	}
	fn, _ = failing(always, &client.Error{Code: "404", Message: "no such invoice"})
	if _, err := client.Execute(ctx(t), c, p, fn); !errors.Is(err, client.ErrNotRetryable) {
		t.Fatal(err)
	}
	fn, _ = failing(0, nil)
	if _, err := client.Execute(ctx(t), c, p, fn); err != nil {
		t.Fatal(err)
	}
	closeClient(t, c)

	scheduled, success, failed := r.published("retry.event.retryScheduled.billing.charge"), r.published("retry.outcome.retrySuccess.billing.charge"), r.published("retry.outcome.retryFailed.billing.charge")
	if len(scheduled) != 2 || len(success) != 1 || len(failed) != 1 {
		t.Fatalf("%d retryScheduled, %d retrySuccess and %d retryFailed were published, want 2, 1 and 1", len(scheduled), len(success), len(failed))
	}
	id := events.OperationID("/billing/eu", "inv-1", "billing", "charge")
	for name, list := range map[string][]*nats.Msg{events.RetryScheduled: scheduled, events.RetrySuccess: success, events.RetryFailed: failed} {
		for _, m := range list {
			if err := schemas.Validate(events.EventType(name), m.Data); err != nil {
				t.Errorf("%s: %v\n%s", m.Subject, err, m.Data)
			}
			if got := m.Header.Get("ce-type"); got != events.EventType(name) {
				t.Errorf("the type is %q, want %q", got, events.EventType(name))
			}
			if got := m.Header.Get(events.HeaderID); name != events.RetryFailed && got != id {
				t.Errorf("%s is of operation %q, want %q", name, got, id)
			}
		}
	}
	o := r.outcomes(2, client.OutcomeFilter{Service: "billing"})
	if o[0].Attempts != 3 || o[0].Priority != "high" || o[0].Account != "acc" || o[0].Campaign != "camp" || o[0].EventID != "inv-1" || o[0].Strategy != "exponential" {
		t.Errorf("the success is %+v, want 3 attempts at high priority of acc and camp by exponential delays", o[0])
	}
	if o[1].Reason != events.ReasonNotRetryable || o[1].Error.Code != "404" || o[1].Error.Message != "no such invoice" || o[1].Rule != "not_found" || o[1].Attempts != 1 {
		t.Errorf("the failure is %+v, want one that is not retryable by rule not_found", o[1])
	}
}

// Every way in which a failed operation can end publishes one outcome that conforms to its
// schema.
func TestExecute_EveryEndHasAnOutcome(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift+`
guarded: {enableCircuitBreaker: true, circuitBreakerThreshold: 1, circuitBreakerTimeout: 1h, maxAttempts: 1000}
budgeted: {retryBudgetPerMinute: 1}
hurried: {maxElapsedTime: 6ms}
`)
	for service, want := range map[string]struct {
		within time.Duration
		reason events.Reason
		is     error
	}{
		"exhausted": {patience, events.ReasonExhausted, client.ErrExhausted},
		"guarded":   {patience, events.ReasonExhausted, client.ErrBreakerOpen},
		"budgeted":  {patience, events.ReasonExhausted, client.ErrRateLimited},
		"hurried":   {patience, events.ReasonMaxElapsed, client.ErrExhausted},
		"short":     {2 * time.Millisecond, events.ReasonDeadline, nil},
	} {
		call := &client.Call{Service: service, Operation: "op"}
		// The first call of a key asks what is known of it.
		if _, err := client.Execute(ctx(t), r.Client, call, func(context.Context) (int, error) { return 0, nil }); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(ctx(t), want.within)
		fn, _ := failing(always, errBusy)
		_, err := client.Execute(ctx, r.Client, call, fn)
		cancel()
		if err == nil || want.is != nil && !errors.Is(err, want.is) {
			t.Errorf("%s ended with %v, want %v", service, err, want.is)
		}
		o := r.outcomes(1, client.OutcomeFilter{Service: service})[0]
		if o.Outcome.Outcome != events.RetryFailed || o.Reason != want.reason || o.Detail == "" || o.Error == nil || o.Error.Code != "503" {
			t.Errorf("the outcome of %s is %+v, want a failure for the reason %s", service, o, want.reason)
		}
	}
	for _, m := range r.published("retry.outcome.>") {
		if err := schemas.Validate(events.EventType(events.RetryFailed), m.Data); err != nil {
			t.Errorf("%s: %v\n%s", m.Subject, err, m.Data)
		}
	}
}

func TestWithHandOver_OperationGoesOnInTheService(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift)
	var mu sync.Mutex
	var got []*client.Request
	r.worker(client.WorkerConfig{Service: "billing", Operation: "charge", Target: "billing.charge.v2"}, func(_ context.Context, req *client.Request) error {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, req)
		return nil
	})
	fn, calls := failing(always, errBusy)
	p := &client.Call{Service: "billing", Operation: "charge", Priority: client.Low, Overrides: map[string]string{"maxAttempts": "3"}}
	_, err := client.Execute(ctx(t), r.Client, p, fn, client.WithEventID("inv-1"),
		client.WithHandOver(client.Submission{Data: []byte(`{"id":1}`), Target: "billing.charge.v2", Header: nats.Header{"X-Tenant": {"t"}}}))
	var over *client.HandedOverError
	if !errors.As(err, &over) || !errors.Is(err, errBusy) || !errors.Is(err, client.ErrExhausted) || calls.Load() != 2 || over.Attempts != 2 {
		t.Fatalf("got %v after %d calls, want a HandedOverError after half of 3 attempts", err, calls.Load())
	}
	o := r.outcomes(1, client.OutcomeFilter{})[0]
	if o.ID != over.Receipt.ID || o.Outcome.Outcome != events.RetrySuccess || o.Attempts != 3 || o.EventID != "inv-1" || o.Priority != "low" {
		t.Errorf("the outcome is %+v, want a success of operation %s at attempt 3 with low priority", o, over.Receipt.ID)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(got) != 1 || string(got[0].Data) != `{"id":1}` || got[0].Attempt != 3 || got[0].ID != over.Receipt.ID || got[0].Header.Get("X-Tenant") != "t" || got[0].Header.Get("ce-errorcode") != "503" || !got[0].Redelivered() {
		t.Errorf("the target got %+v, want the payload once, as attempt 3 of operation %s", got, over.Receipt.ID)
	}
}

func TestWithHandOver_RequiresThatTheOperationMayContinue(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift+"guarded: {enableCircuitBreaker: true, circuitBreakerThreshold: 1, circuitBreakerTimeout: 1h}\n")
	handOver := client.WithHandOver(client.Submission{})
	run := func(service string, ctx context.Context, err error, options ...client.ExecuteOption) error {
		t.Helper()
		fn, _ := failing(always, err)
		_, err = client.Execute(ctx, r.Client, &client.Call{Service: service, Operation: "op"}, fn, append(options, handOver)...)
		return err
	}
	short, cancel := context.WithTimeout(ctx(t), time.Millisecond)
	defer cancel()
	cancelled, cancelNow := context.WithCancel(ctx(t))
	cancelNow()
	for name, tc := range map[string]struct {
		err  error
		over bool
	}{
		"at its deadline":                     {run("short", short, errBusy), true},
		"when its breaker opens":              {run("guarded", ctx(t), errBusy), true},
		"when its breaker is open":            {run("guarded", ctx(t), errBusy), true},
		"after one attempt, if that is asked": {run("one", ctx(t), errBusy, client.WithMaxAttempts(1)), true},
		"not when it is not retryable":        {run("wrong", ctx(t), client.NotRetryable(errBusy)), false},
		"not when the caller cancels":         {run("cancelled", cancelled, errBusy), false},
	} {
		if errors.Is(tc.err, client.ErrHandedOver) != tc.over || tc.err == nil {
			t.Errorf("%s: got %v, want handed over: %t", name, tc.err, tc.over)
		}
	}
}

func TestWithHandOver_FailureIsReported(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift)
	fn, _ := failing(always, errBusy)
	_, err := client.Execute(ctx(t), r.Client, &client.Call{Service: "a", Operation: "b"}, fn, client.WithHandOver(client.Submission{Target: "$SYS.x"}))
	if !errors.As(err, new(*events.RejectedError)) || !errors.Is(err, client.ErrExhausted) || errors.Is(err, client.ErrHandedOver) {
		t.Errorf("got %v, want to be exhausted with a rejected hand-over", err)
	}
	if o := r.outcomes(1, client.OutcomeFilter{})[0]; o.Outcome.Outcome != events.RetryFailed {
		t.Errorf("the outcome is %+v, want a failure", o)
	}
}

func TestFollower_PutsAppliedPoliciesInForce(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift)
	js := testkit.JetStream(t, r.nc)
	bucket, err := policies.Open(ctx(t), js, "")
	if err != nil {
		t.Fatal(err)
	}
	apply := func(source string, over uint64) uint64 {
		t.Helper()
		revision, err := bucket.Apply(ctx(t), "test", []byte(source), over)
		if err != nil {
			t.Fatal(err)
		}
		return revision.Number
	}
	p := &client.Call{Service: "a", Operation: "b"}
	attempts := func(c *client.Client) int64 {
		t.Helper()
		fn, calls := failing(always, errBusy)
		if _, err := client.Execute(ctx(t), c, p, fn); !errors.Is(err, client.ErrExhausted) {
			t.Fatal(err)
		}
		return calls.Load()
	}
	if n := attempts(r.Client); n != 4 {
		t.Errorf("with its own policies %d attempts were made, want 4", n)
	}
	first := apply("default: {maxAttempts: 2, baseDelay: 1ms, enableCircuitBreaker: false}", 0)
	testkit.Eventually(t, patience, "the applied policies are in force", func() bool { return attempts(r.Client) == 2 })
	if n := attempts(connected(t, client.Config{Conn: r.nc})); n != 2 {
		t.Errorf("a client that starts later makes %d attempts, want the 2 of the applied policies", n)
	}
	apply("default: {maxAttempts: 3, baseDelay: 1ms, enableCircuitBreaker: false}", first)
	testkit.Eventually(t, patience, "the next policies are in force", func() bool { return attempts(r.Client) == 3 })
}

// lines is a log whose text can be read while it is written.
type lines struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.String()
}

func TestPublisher_EventsThatNobodyStoresAreLoggedAndLost(t *testing.T) {
	t.Parallel()
	nc := testkit.Connect(t, testkit.Server(t).ClientURL())
	log := new(lines)
	c, err := client.New(ctx(t), client.Config{Conn: nc, Policies: policySet(t, swift), Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	fn, _ := failing(1, errBusy)
	if got, err := client.Execute(ctx(t), c, &client.Call{Service: "a", Operation: "b"}, fn); got != 2 || err != nil {
		t.Errorf("got %d, %v, want the work to succeed nevertheless", got, err)
	}
	closeClient(t, c)
	if text := log.String(); !strings.Contains(text, "events could not be published and are lost") {
		t.Errorf("the log is %q, want it to tell of lost events", text)
	}
	if _, err := c.Submit(ctx(t), client.Submission{Service: "a", Operation: "b"}); !errors.Is(err, client.ErrClosed) {
		t.Errorf("after Close Submit returns %v, want ErrClosed", err)
	}
}
