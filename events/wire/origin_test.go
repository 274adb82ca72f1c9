package wire_test

import (
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
)

func TestOrigin_IsPassedToTheTargetAndTheDeadLetter(t *testing.T) {
	o := &events.Operation{
		ID: events.OperationID("/s", "1", "orders", "worker"), EventID: "1", Source: "/s", Service: "orders", Operation: "worker", Attempt: 3,
		Origin: &events.Origin{Stream: "ORDERS", Consumer: "worker", Sequence: 17, Subject: "orders.new"},
	}
	want := map[string]string{
		events.HeaderOriginStream: "ORDERS", events.HeaderOriginConsumer: "worker",
		events.HeaderOriginSequence: "17", events.HeaderOriginSubject: "orders.new",
	}
	d := events.DeadLetter{ID: o.ID, Service: o.Service, Operation: o.Operation, Reason: events.ReasonExhausted, State: o}
	m, err := wire.EncodeDeadLetter(events.Subjects{}, &d)
	if err != nil {
		t.Fatal(err)
	}
	for name, h := range map[string]nats.Header{"the target": wire.TargetHeader(o, nil, 4, false), "the dead letter": m.Header} {
		for header, value := range want {
			if got := h.Get(header); got != value {
				t.Errorf("%s has %s %q, want %q", name, header, got, value)
			}
		}
	}
	back, err := wire.DecodeDeadLetter(m.Subject, 1, m.Header, nil)
	if err != nil || back.State.Origin == nil || *back.State.Origin != *o.Origin || back.State.Origin.Gone() {
		t.Errorf("read back is %+v, %v, want the origin %+v", back, err, o.Origin)
	}
	for header := range back.Header {
		if want[header] != "" {
			t.Errorf("%s is among the headers of the submission", header)
		}
	}
}

func TestOrigin_WithoutASubjectIsGone(t *testing.T) {
	o := &events.Operation{Origin: &events.Origin{Stream: "ORDERS", Consumer: "worker", Sequence: 17}}
	if _, found := wire.TargetHeader(o, nil, 1, false)[events.HeaderOriginSubject]; found || !o.Origin.Gone() {
		t.Errorf("gone is %v and the header with the subject present %v, want gone and no header", o.Origin.Gone(), found)
	}
}
