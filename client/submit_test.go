package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/client"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestSubmit_ReachesTheTargetWhole(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift)
	requests := make(chan *client.Request, 1)
	r.worker(client.WorkerConfig{Service: "billing", Operation: "charge"}, func(_ context.Context, req *client.Request) error {
		requests <- req
		return nil
	})
	first, deadline := time.Now().Add(-time.Minute).UTC().Truncate(time.Second), time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	data := []byte("\x00\xff any bytes")
	receipt, err := r.Submit(ctx(t), client.Submission{
		Service: "billing", Operation: "charge", Data: data, ContentType: "application/x-thing", Header: nats.Header{"X-Tenant": {"a", "b"}},
		EventID: "inv-1", Source: "/eu", Subject: "order/1", Account: "acc", Campaign: "camp", Priority: client.Critical,
		Attempt: 2, Err: fmt.Errorf("50 %% ü: %w", errBusy), FirstFailure: first, Deadline: deadline,
		Overrides: map[string]string{"maxAttempts": "3"}, TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	})
	if err != nil {
		t.Fatal(err)
	}
	if receipt.ID != events.OperationID("/eu", "inv-1", "billing", "charge") || receipt.Stream != "RETRY_INTAKE" || receipt.Sequence == 0 || receipt.Duplicate {
		t.Errorf("the receipt is %+v", receipt)
	}
	got := <-requests
	if string(got.Data) != string(data) || got.ID != receipt.ID || got.Attempt != 3 || !got.FirstFailure.Equal(first) || !got.Deadline.Equal(deadline) || got.Subject != "billing.charge" {
		t.Errorf("the target got %+v", got)
	}
	for name, want := range map[string]string{
		"ce-id": "inv-1", "ce-source": "/eu", "ce-subject": "order/1", "ce-type": events.TypeFailed, "content-type": "application/x-thing",
		"ce-accountid": "acc", "ce-campaignid": "camp", "ce-priority": "critical", "ce-errorcode": "503", "ce-errormessage": "50 %25 %C3%BC: busy",
	} {
		if v := got.Header.Get(name); v != want {
			t.Errorf("the target got %s %q, want %q", name, v, want)
		}
	}
	if v := got.Header["X-Tenant"]; len(v) != 2 || v[1] != "b" {
		t.Errorf("the target got X-Tenant %q, want both values", v)
	}
	o := r.outcomes(1, client.OutcomeFilter{})[0]
	if o.ID != receipt.ID || o.Attempts != 3 || o.Account != "acc" || o.Priority != "critical" {
		t.Errorf("the outcome is %+v", o)
	}
}

func TestSubmit_SameSubmissionIsStoredOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift)
	s := client.Submission{Service: "a", Operation: "b", EventID: "1", Err: errBusy}
	first, err := r.Submit(ctx(t), s)
	if err != nil {
		t.Fatal(err)
	}
	second, err := r.Submit(ctx(t), s)
	if err != nil || !second.Duplicate || second.Sequence != first.Sequence || second.ID != first.ID {
		t.Errorf("the second receipt is %+v, %v, want a duplicate of %+v", second, err, first)
	}
	s.EventID = ""
	third, err := r.Submit(ctx(t), s)
	if err != nil || third.Duplicate || third.ID == first.ID {
		t.Errorf("without an id the receipt is %+v, %v, want a new operation", third, err)
	}
}

func TestSubmit_RejectsWhatTheServiceWouldReject(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift)
	for name, s := range map[string]client.Submission{
		"no service":                    {Operation: "b"},
		"a service with a dot":          {Service: "a.b", Operation: "b"},
		"a target of the server":        {Service: "a", Operation: "b", Target: "$JS.API.x"},
		"an unknown priority":           {Service: "a", Operation: "b", Priority: "urgent"},
		"a reserved header":             {Service: "a", Operation: "b", Header: nats.Header{"Nats-Msg-Id": {"x"}}},
		"an attribute as a header":      {Service: "a", Operation: "b", Header: nats.Header{"ce-id": {"x"}}},
		"an attribute that is too long": {Service: "a", Operation: "b", Account: strings.Repeat("x", 5000)},
		"headers that are too large":    {Service: "a", Operation: "b", Header: nats.Header{"X": {strings.Repeat("x", 20<<10)}}},
		"a payload beyond the server's": {Service: "a", Operation: "b", Data: make([]byte, 2<<20)},
		"a source that is no reference": {Service: "a", Operation: "b", Source: "\x00"},
		"an envelope as the payload":    {Service: "a", Operation: "b", Data: []byte("{}"), ContentType: "application/cloudevents+json"},
	} {
		receipt, err := r.Submit(ctx(t), s)
		var rejected *events.RejectedError
		if !errors.As(err, &rejected) || receipt != (client.Receipt{}) {
			t.Errorf("%s: got %+v, %v, want a RejectedError", name, receipt, err)
		}
	}
}

func TestSubmitBatch_ReportsEachSubmission(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift)
	batch := make([]client.Submission, 300)
	for i := range batch {
		batch[i] = client.Submission{Service: "a", Operation: "b", EventID: fmt.Sprint(i), Err: errBusy}
	}
	batch[7].Priority = "urgent"
	receipts, err := r.SubmitBatch(ctx(t), batch)
	var failed *client.BatchError
	if !errors.As(err, &failed) || failed.Index != 7 || !errors.As(err, new(*events.RejectedError)) {
		t.Errorf("the error is %v, want that submission 7 is rejected", err)
	}
	for i, receipt := range receipts {
		if (receipt.Sequence == 0) != (i == 7) {
			t.Fatalf("receipt %d is %+v, want all but 7 stored", i, receipt)
		}
	}
	if _, err := r.SubmitBatch(ctx(t), nil); err != nil {
		t.Errorf("an empty batch gives %v, want nil", err)
	}
}

func TestSubmitAsync_IsWaitedForAnyNumberOfTimes(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift)
	s, err := r.SubmitAsync(ctx(t), client.Submission{Service: "a", Operation: "b", EventID: "1", Err: errBusy})
	if err != nil {
		t.Fatal(err)
	}
	first, err := s.Wait(ctx(t))
	if err != nil || first.Sequence == 0 {
		t.Fatalf("got %+v, %v, want a receipt", first, err)
	}
	if again, err := s.Wait(ctx(t)); again != first || err != nil {
		t.Errorf("the second Wait gives %+v, %v, want the same receipt", again, err)
	}
}

func TestClient_WithoutStreamsReturnsErrNoStream(t *testing.T) {
	t.Parallel()
	c := connected(t, client.Config{Conn: testkit.Connect(t, testkit.Server(t).ClientURL())})
	s := client.Submission{Service: "a", Operation: "b"}
	if _, err := c.Submit(ctx(t), s); !errors.Is(err, client.ErrNoStream) {
		t.Errorf("Submit gives %v, want ErrNoStream", err)
	}
	if _, err := c.SubmitBatch(ctx(t), []client.Submission{s}); !errors.Is(err, client.ErrNoStream) {
		t.Errorf("SubmitBatch gives %v, want ErrNoStream", err)
	}
	for _, err := range c.Outcomes(ctx(t), client.OutcomeFilter{}) {
		if !errors.Is(err, client.ErrNoStream) {
			t.Errorf("Outcomes gives %v, want ErrNoStream", err)
		}
	}
	for _, err := range c.DeadLetters().List(ctx(t), client.DeadLetterFilter{}) {
		if !errors.Is(err, client.ErrNoStream) {
			t.Errorf("List gives %v, want ErrNoStream", err)
		}
	}
	if metrics, err := c.FetchHealth(ctx(t)); len(metrics) != 0 || err != nil {
		t.Errorf("Health gives %v, %v, want nothing", metrics, err)
	}
}

func TestClient_WithoutNATSOnlyExecuteWorks(t *testing.T) {
	c := local(t)
	defer closeClient(t, c)
	errs := map[string]error{}
	_, errs["Submit"] = c.Submit(ctx(t), client.Submission{})
	_, errs["SubmitAsync"] = c.SubmitAsync(ctx(t), client.Submission{})
	_, errs["SubmitBatch"] = c.SubmitBatch(ctx(t), make([]client.Submission, 1))
	_, errs["StartWorker"] = c.StartWorker(ctx(t), client.WorkerConfig{}, nil)
	errs["Serve"] = c.Serve(ctx(t), client.WorkerConfig{}, nil)
	_, errs["Health"] = c.FetchHealth(ctx(t))
	errs["ReportHealth"] = c.ReportHealth(ctx(t), "a", events.HealthReport{})
	_, errs["Get"] = c.DeadLetters().Get(ctx(t), "x")
	for _, err := range c.Outcomes(ctx(t), client.OutcomeFilter{}) {
		errs["Outcomes"] = err
	}
	for name, err := range errs {
		if !errors.Is(err, client.ErrNotConnected) {
			t.Errorf("%s gives %v, want ErrNotConnected", name, err)
		}
	}
	if _, ok := errs["Outcomes"]; !ok {
		t.Error("Outcomes gives nothing, want ErrNotConnected")
	}
}

func TestSubmit_OverridesCountInTheService(t *testing.T) {
	t.Parallel()
	r := newRig(t, `
default: {maxAttempts: 9, baseDelay: 1ms, maxDelay: 1s, backoffStrategy: exponential, jitterType: none, enableAdaptiveBackoff: true, enableCircuitBreaker: false}
`)
	r.worker(client.WorkerConfig{Service: "billing", Operation: "charge"}, func(context.Context, *client.Request) error { return errBusy })
	submit := func(id string, overrides map[string]string) {
		t.Helper()
		s := client.Submission{Service: "billing", Operation: "charge", EventID: id, Overrides: overrides, Err: errBusy}
		if _, err := r.Submit(ctx(t), s); err != nil {
			t.Fatal(err)
		}
	}
	submit("adaptive", map[string]string{"maxAttempts": "3"})
	submit("plain", map[string]string{"maxAttempts": "3", "enableAdaptiveBackoff": "false"})
	for _, o := range r.outcomes(2, client.OutcomeFilter{Service: "billing"}) {
		if o.Attempts != 3 {
			t.Errorf("%s made %d attempts, want the 3 that it asked for", o.EventID, o.Attempts)
		}
	}
	strategies := make(map[string]string)
	for _, m := range r.published("retry.event.retryScheduled.billing.charge") {
		var e events.Scheduled
		if err := json.Unmarshal(m.Data, &e); err != nil {
			t.Fatal(err)
		}
		strategies[e.EventID] = e.Strategy
	}
	if strategies["adaptive"] != "adaptive_exponential" || strategies["plain"] != "exponential" {
		t.Errorf("the delays were computed by %v, want adaptive_exponential of adaptive and exponential of plain", strategies)
	}
	var rejected *events.RejectedError
	_, err := r.Submit(ctx(t), client.Submission{Service: "billing", Operation: "charge", Overrides: map[string]string{"circuitBreakerThreshold": "3"}})
	if !errors.As(err, &rejected) || !strings.Contains(err.Error(), "an operation may override adaptationFactor, attemptTimeout,") {
		t.Errorf("an override of the breaker gives %v, want it rejected with what may be overridden", err)
	}
}
