package wire

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/events"
)

// bareSubmission is what a service submits without making a CloudEvent of it.
func bareSubmission() Submission {
	return Submission{
		Subject: "retry.submit.bench.op", Data: []byte(strings.Repeat("x", 512)),
		Name: "RETRY_INTAKE-17-1772366400000000000", Received: received,
	}
}

// acceptedOperation returns the operation of [bareSubmission] as it is stored, with the decision on its
// failure.
func acceptedOperation(tb testing.TB) *events.Operation {
	tb.Helper()
	op, err := DecodeSubmission(events.Subjects{}, bareSubmission())
	if err != nil {
		tb.Fatal(err)
	}
	op.Delivery, op.Due = events.Request, received.Add(612*time.Millisecond+345*time.Microsecond)
	last := &op.History[0]
	last.Class, last.Rule, last.DelayMs, last.Strategy = "transient", "unknown", 612.345, "exponential"
	return op
}

// scheduledEvent is the decision on the failure of [acceptedOperation].
func scheduledEvent(op *events.Operation) events.Scheduled {
	return events.Scheduled{
		About: op.About(), Attempt: op.Attempt, Class: "transient", Rule: "unknown", DelayMs: 612.345, Due: op.Due,
		Strategy: "exponential", Confidence: 1, Factors: map[string]float64{"jitter": 0.87, "priority": 1},
	}
}

func BenchmarkDecodeSubmission_OfABareMessage(b *testing.B) {
	b.ReportAllocs()
	s := bareSubmission()
	for b.Loop() {
		if _, err := DecodeSubmission(events.Subjects{}, s); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeSubmission_OfABinaryEvent(b *testing.B) {
	b.ReportAllocs()
	s := submission("retry.submit.billing.charge", binaryEvent(map[string]string{"ce-errorcode": "503", "ce-priority": "high"}), "payload")
	for b.Loop() {
		if _, err := DecodeSubmission(events.Subjects{}, s); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeEvent_Scheduled(b *testing.B) {
	b.ReportAllocs()
	op := acceptedOperation(b)
	data := scheduledEvent(op)
	for b.Loop() {
		if _, err := EncodeEvent("retry.event.retryScheduled.bench.op", Event{Name: events.RetryScheduled, ID: op.MessageID(events.RetryScheduled), About: data.About, Time: received, Data: &data}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeEvent_Success(b *testing.B) {
	b.ReportAllocs()
	op := acceptedOperation(b)
	for b.Loop() {
		data := op.Ended(events.RetrySuccess, received.Add(time.Second))
		if _, err := EncodeEvent("retry.outcome.retrySuccess.bench.op", Event{Name: events.RetrySuccess, ID: op.OutcomeID(), About: data.About, Time: data.EndedAt, Data: &data}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPutState makes the message that stores an operation.
func BenchmarkPutState(b *testing.B) {
	b.ReportAllocs()
	op := acceptedOperation(b)
	for b.Loop() {
		if err := PutState(op, CarriedHeader(nil)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadState(b *testing.B) {
	b.ReportAllocs()
	h := nats.Header{}
	if err := PutState(acceptedOperation(b), h); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(len(h.Get(events.HeaderState))), "B/state")
	for b.Loop() {
		if _, err := ReadState(h); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTargetHeader(b *testing.B) {
	b.ReportAllocs()
	op := acceptedOperation(b)
	h := nats.Header{"Nats-Scheduler": {"x"}, "Nats-Schedule-Next": {"purge"}, "X-Tenant": {"7"}}
	if err := PutState(op, h); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if h := TargetHeader(op, h, 2, false); len(h) == 0 {
			b.Fatal("no headers")
		}
	}
}

// The bounds leave room for the race detector, under which pools drop a part of what they are given.
func TestHotPath_AllocatesLittle(t *testing.T) {
	op, submitted, stored := acceptedOperation(t), bareSubmission(), CarriedHeader(nil)
	if err := PutState(op, stored); err != nil {
		t.Fatal(err)
	}
	data, outcome := scheduledEvent(op), op.Ended(events.RetrySuccess, received)
	scheduled := Event{Name: events.RetryScheduled, ID: op.MessageID(events.RetryScheduled), About: data.About, Time: received, Data: &data}
	success := Event{Name: events.RetrySuccess, ID: op.OutcomeID(), About: outcome.About, Time: received, Data: &outcome}
	for name, c := range map[string]struct {
		most float64
		do   func() error
	}{
		"decoding a bare submission":  {8, func() error { _, err := DecodeSubmission(events.Subjects{}, submitted); return err }},
		"encoding a decision":         {14, func() error { _, err := EncodeEvent("x", scheduled); return err }},
		"encoding a success":          {14, func() error { _, err := EncodeEvent("x", success); return err }},
		"storing an operation":        {8, func() error { return PutState(op, CarriedHeader(nil)) }},
		"reading a stored operation":  {6, func() error { _, err := ReadState(stored); return err }},
		"making a target's headers":   {9, func() error { TargetHeader(op, stored, 2, false); return nil }},
		"the message id of a message": {1, func() error { op.MessageID("x"); return nil }},
	} {
		if got := testing.AllocsPerRun(100, func() {
			if err := c.do(); err != nil {
				t.Error(name, err)
			}
		}); got > c.most {
			t.Errorf("%s takes %v allocations, want at most %v", name, got, c.most)
		}
	}
}
