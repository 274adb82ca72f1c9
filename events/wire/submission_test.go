package wire

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"pgregory.net/rapid"

	"github.com/rebound-mq/rebound/events"
)

var received = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// binaryEvent is a CloudEvent in binary mode with every required attribute.
func binaryEvent(more map[string]string) nats.Header {
	h := nats.Header{}
	for k, v := range map[string]string{"ce-specversion": "1.0", "ce-id": "42", "ce-source": "/billing", "ce-type": events.TypeFailed} {
		h[k] = []string{v}
	}
	for k, v := range more {
		h[k] = []string{v}
	}
	return h
}

func submission(subject string, h nats.Header, data string) Submission {
	return Submission{Subject: subject, Header: h, Data: []byte(data), Name: "s-7", Received: received}
}

func TestDecodeSubmission_ReadsEveryAttributeOfABinaryEvent(t *testing.T) {
	op, err := DecodeSubmission(events.Subjects{}, submission("retry.submit.billing.charge", binaryEvent(map[string]string{
		"ce-service": "billing", "ce-operation": "charge", "ce-target": "billing.charge.v2", "ce-priority": "high",
		"ce-attempt": "3", "ce-accountid": "acc", "ce-campaignid": "camp", "ce-errorcode": "503", "ce-errormessage": "busy%20now",
		"ce-retryafter": "30", "ce-deadline": "2026-03-01T13:00:00Z", "ce-firstfailure": "2026-03-01T11:59:00Z",
		"ce-delivery": "request", "ce-maxattempts": "7", "ce-basedelay": "250", "ce-subject": "order/1",
		"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	}), "payload"))
	if err != nil {
		t.Fatalf("a valid event was rejected: %v", err)
	}
	want := events.Operation{
		ID: events.OperationID("/billing", "42", "billing", "charge"), EventID: "42", Source: "/billing", Type: events.TypeFailed, Subject: "order/1",
		Service: "billing", Operation: "charge", Account: "acc", Campaign: "camp",
		TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		Target:      "billing.charge.v2", Delivery: events.Request, Priority: events.High, PriorityGiven: true,
		Overrides: map[string]string{"maxattempts": "7", "basedelay": "250"}, Attempt: 3,
		RetryAfter: received.Add(30 * time.Second), Deadline: received.Add(time.Hour),
		FirstFailure: received.Add(-time.Minute), Submitted: received,
		History: []events.Attempt{{Number: 3, At: received.Add(-time.Minute), Code: "503", Error: "busy now"}},
	}
	got, _ := json.Marshal(op)
	expected, _ := json.Marshal(want)
	if string(got) != string(expected) {
		t.Errorf("decoded operation\n got %s\nwant %s", got, expected)
	}
}

func TestDecodeSubmission_TakesABareMessageWithTheNamesOfItsSubject(t *testing.T) {
	op, err := DecodeSubmission(events.Subjects{}, submission("retry.submit.billing.charge", nil, `{"id":1}`))
	if err != nil {
		t.Fatalf("a bare message was rejected: %v", err)
	}
	if op.Service != "billing" || op.Operation != "charge" || op.EventID != "s-7" || op.Source != "/retry/submit/billing/charge" || op.Attempt != 1 {
		t.Errorf("bare message became %+v", op)
	}
}

func TestDecodeSubmission_TakesAttributesOfABareMessageFromHeaders(t *testing.T) {
	h := nats.Header{"Ce-ErrorCode": {"429"}, "CE-PRIORITY": {"low"}}
	op, err := DecodeSubmission(events.Subjects{Prefix: "again"}, submission("again.submit.a.b", h, ""))
	if err != nil {
		t.Fatalf("a bare message with headers was rejected: %v", err)
	}
	if last, _ := op.Last(); last.Code != "429" || op.Priority != events.Low {
		t.Errorf("got code %q and priority %s, want 429 and low", last.Code, op.Priority)
	}
}

func TestDecodeSubmission_ReadsAStructuredEvent(t *testing.T) {
	h := nats.Header{"Content-Type": {"application/cloudevents+json; charset=utf-8"}}
	op, err := DecodeSubmission(events.Subjects{}, submission("retry.submit.billing.charge", h,
		`{"specversion":"1.0","id":"1","source":"/s","type":"rebound.operation.failed.v1","attempt":2,"errorcode":"UNAVAILABLE","data":{"amount":3}}`))
	if err != nil {
		t.Fatalf("a structured event was rejected: %v", err)
	}
	if last, _ := op.Last(); op.EventID != "1" || op.Attempt != 2 || last.Code != "UNAVAILABLE" {
		t.Errorf("structured event became %+v", op)
	}
}

func TestDecodeSubmission_RejectsWhatIsInvalid(t *testing.T) {
	structured := nats.Header{"content-type": {"application/cloudevents+json"}}
	long := strings.Repeat("x", 10_000)
	with := func(k, v string) nats.Header { return binaryEvent(map[string]string{k: v}) }
	for _, c := range []struct {
		name    string
		subject string
		header  nats.Header
		data    string
		want    string
	}{
		{"a subject with one token", "retry.submit.billing", nil, "", "it needs two"},
		{"a subject with three tokens", "retry.submit.a.b.c", nil, "", "it needs two"},
		{"a service that starts with a dash", "retry.submit.-a.b", nil, "", "starts with a dash"},
		{"an operation type that is too long", "retry.submit.a." + strings.Repeat("o", 65), nil, "", "more than the 64 allowed"},
		{"a service attribute with dots", "", with("ce-service", "bill.ing"), "", `has the character '.'`},
		{"a service attribute with a space", "", with("ce-service", "bill%20ing"), "", `has the character ' '`},
		{"an operation attribute with a wildcard", "", with("ce-operation", "*"), "", `has the character '*'`},
		{"an operation attribute with a control character", "", with("ce-operation", "a%00"), "", `has the character '\x00'`},
		{"a service attribute that differs from the subject", "", with("ce-service", "other"), "", `differs from "billing" in the subject`},
		{"an event without an id", "", with("ce-id", ""), "", "id is required to be a non-empty string"},
		{"an event with no id header", "", nats.Header{"ce-specversion": {"1.0"}, "ce-source": {"/s"}, "ce-type": {events.TypeFailed}}, "", "id: MUST be a non-empty string"},
		{"an event of an unknown version", "", with("ce-specversion", "7.0"), "", `specversion "7.0" is not known`},
		{"an event of another of our types", "", with("ce-type", "rebound.retrySuccess.v1"), "", "not for submissions"},
		{"an id of 10,000 characters", "", with("ce-id", long), "", "attribute id has 10000 bytes, more than the 1024 allowed"},
		{"an error message of 10,000 characters", "", with("ce-errormessage", long), "", "attribute errormessage has 10000 bytes"},
		{"an account with a control character", "", with("ce-accountid", "a%07"), "", "control character U+0007"},
		{"an attempt of zero", "", with("ce-attempt", "0"), "", `attempt "0" is no whole number of at least 1`},
		{"a negative attempt", "", with("ce-attempt", "-4"), "", `attempt "-4" is no whole number`},
		{"an attempt that is no number", "", with("ce-attempt", "two"), "", `attempt "two"`},
		{"an unknown priority", "", with("ce-priority", "urgent"), "", "none of critical, high, normal, low"},
		{"a deadline that is no time", "", with("ce-deadline", "tomorrow"), "", "no RFC 3339 time"},
		{"a retry-after that is neither", "", with("ce-retryafter", "soon"), "", "neither seconds nor a date"},
		{"a retry-after of minus one", "", with("ce-retryafter", "-1"), "", "between 0 seconds and a year"},
		{"a retry-after that is not a number", "", with("ce-retryafter", "NaN"), "", "between 0 seconds and a year"},
		{"a delivery that is not offered", "", with("ce-delivery", "carrier-pigeon"), "", "neither"},
		{"a target of the system account", "", with("ce-target", "$SYS.REQ.SERVER.PING"), "", "belongs to the server"},
		{"a target with a trailing wildcard", "", with("ce-target", "$SYS.>"), "", "has a wildcard"},
		{"a target of the JetStream API", "", with("ce-target", "$JS.API.STREAM.DELETE.X"), "", "belongs to the server"},
		{"a target that is an inbox", "", with("ce-target", "_INBOX.x"), "", "is an inbox"},
		{"a target on our own submit subject", "", with("ce-target", "retry.submit.x.y"), "", "belongs to Rebound itself"},
		{"a target on an endpoint of ours", "", with("ce-target", "rebound.dead.discard"), "", "belongs to Rebound itself"},
		{"a target that is a wildcard", "", with("ce-target", "*"), "", "has a wildcard"},
		{"a target with an empty token", "", with("ce-target", "a..b"), "", "has an empty token"},
		{"a target with a space", "", with("ce-target", "a%20b"), "", "has a space or a control character"},
		{"invalid JSON in structured mode", "", structured, `{"specversion":`, "not valid JSON"},
		{"an empty structured message", "", structured, ``, "not valid JSON"},
		{"a structured message that is no object", "", structured, `[1,2]`, "reading the CloudEvent in structured mode"},
		{"data_base64 that is a number", "", structured, `{"specversion":"1.0","id":"1","source":"/s","type":"t","data_base64":1}`, "structured mode"},
		{"a batch", "", nats.Header{"content-type": {"application/cloudevents-batch+json"}}, `[]`, "batch"},
		{"headers of more than 16 KiB", "", nats.Header{"x": {strings.Repeat("y", events.MaxHeaders)}}, "", "headers have"},
	} {
		t.Run(c.name, func(t *testing.T) {
			subject := c.subject
			if subject == "" {
				subject = "retry.submit.billing.charge"
			}
			op, err := DecodeSubmission(events.Subjects{}, submission(subject, c.header, c.data))
			var rejected *events.RejectedError
			if !errors.As(err, &rejected) {
				t.Fatalf("got operation %+v and error %v, want a rejection", op, err)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %q, want it to say %q", err, c.want)
			}
			if strings.Contains(err.Error(), long) {
				t.Errorf("the error repeats the whole attribute")
			}
		})
	}
}

func TestDecodeSubmission_ReportsAllProblemsAtOnce(t *testing.T) {
	_, err := DecodeSubmission(events.Subjects{}, submission("retry.submit.a.b", binaryEvent(map[string]string{"ce-attempt": "x", "ce-priority": "y", "ce-target": ">"}), ""))
	for _, want := range []string{"attempt", "priority", "target"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to mention the %s", err, want)
		}
	}
}

func TestDecodeSubmission_NeverRepeatsThePayloadInAnError(t *testing.T) {
	h := nats.Header{"content-type": {"application/cloudevents+json"}}
	for _, data := range []string{
		`{"specversion":"1.0","id":"1","source":"/s","type":"t","data":"s3cret"`,
		`{"specversion":"1.0","id":7,"source":"/s","type":"t","password":"s3cret"}`,
		`{"specversion":"1.0","id":"1","source":"/s","type":"t","time":"s3cret","data":"s3cret"}`,
	} {
		if _, err := DecodeSubmission(events.Subjects{}, submission("retry.submit.a.b", h, data)); err != nil && strings.Contains(err.Error(), "s3cret\",\"data") {
			t.Errorf("the error shows the payload: %v", err)
		}
	}
}

func TestPutState_LargestFitsIntoAHeader(t *testing.T) {
	full := strings.Repeat(`"`, events.MaxAttribute)
	op := &events.Operation{
		ID: strings.Repeat("f", 32), EventID: full, Source: full, Type: full, Subject: full, Target: strings.Repeat("t", 255),
		Service: strings.Repeat("s", events.MaxName), Operation: strings.Repeat("o", events.MaxName), Account: full, Campaign: full, Attempt: 1 << 30,
	}
	for n := range 50 {
		op.Record(events.Attempt{Number: n, At: received, Error: strings.Repeat(`"`, 1000), Code: strings.Repeat(`"`, 1000), Rule: strings.Repeat("r", 64), Class: "not_retryable", Strategy: "adaptive_exponential", DelayMs: 1e9 / 3})
	}
	h := nats.Header{}
	if err := PutState(op, h); err != nil {
		t.Fatal(err)
	}
	if size := headerSize(h); size > 47<<10 {
		t.Errorf("the largest state takes %d bytes, more than 47 KiB", size)
	}
}

func TestReadState_ReadsWhatWasPut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		op := &events.Operation{
			ID: "0123456789abcdef0123456789abcdef", EventID: rapid.String().Draw(t, "id"), Source: rapid.String().Draw(t, "source"),
			Service: "a", Operation: "b", Attempt: rapid.IntRange(1, 1<<31-1).Draw(t, "attempt"),
			Due: received, Priority: rapid.SampledFrom(events.Priorities[:]).Draw(t, "priority"),
		}
		op.Record(events.Attempt{Number: 1, Error: rapid.String().Draw(t, "error")})
		h := nats.Header{}
		if err := PutState(op, h); err != nil {
			t.Fatal(err)
		}
		if strings.ContainsAny(h.Get(events.HeaderState), "\r\n") {
			t.Fatalf("the header %q has a line break", h.Get(events.HeaderState))
		}
		back, err := ReadState(h)
		if err != nil {
			t.Fatal(err)
		}
		again := nats.Header{}
		if err := PutState(back, again); err != nil {
			t.Fatal(err)
		}
		if h.Get(events.HeaderState) != again.Get(events.HeaderState) {
			t.Fatalf("got %s, want %s", again.Get(events.HeaderState), h.Get(events.HeaderState))
		}
	})
}

func TestTargetHeader_CarriesTheSubmissionAndHidesTheState(t *testing.T) {
	op, err := DecodeSubmission(events.Subjects{}, submission("retry.submit.billing.charge", nats.Header{"X-Tenant": {"7"}, "Nats-Msg-Id": {"m"}}, ""))
	if err != nil {
		t.Fatal(err)
	}
	op.Deadline = received
	h := TargetHeader(op, nats.Header{"X-Tenant": {"7"}, events.HeaderState: {"{}"}, "Nats-Msg-Id": {"m"}}, 2, true)
	for k, want := range map[string]string{
		"X-Tenant": "7", events.HeaderID: op.ID, events.HeaderAttempt: "2", events.HeaderRepeated: "true", events.HeaderDeadline: "2026-03-01T12:00:00Z",
		"ce-id": "s-7", "ce-specversion": "1.0", "ce-service": "billing", events.HeaderState: "", "Nats-Msg-Id": "",
	} {
		if got := h.Get(k); got != want {
			t.Errorf("header %s is %q, want %q", k, got, want)
		}
	}
}

func TestPercentEncode_IsDecodedAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "s")
		if got := percentDecode(percentEncode(s)); got != s {
			t.Fatalf("got %q back, want %q", got, s)
		}
	})
}

func TestDecodeDeadLetter_ReadsWhatWasEncoded(t *testing.T) {
	op, err := DecodeSubmission(events.Subjects{}, submission("retry.submit.billing.charge", nats.Header{"X-Tenant": {"7"}}, "data"))
	if err != nil {
		t.Fatal(err)
	}
	d := events.DeadLetter{
		ID: op.ID, Service: op.Service, Operation: op.Operation, Reason: events.ReasonExhausted, Detail: "all 3\nattempts", DiedAt: received,
		SubmittedTo: "retry.submit.billing.charge", State: op, Header: nats.Header{"X-Tenant": {"7"}}, Data: []byte("data"),
	}
	m, err := EncodeDeadLetter(events.Subjects{}, &d)
	if err != nil {
		t.Fatal(err)
	}
	back, err := DecodeDeadLetter(m.Subject, 9, m.Header, m.Data)
	if err != nil {
		t.Fatal(err)
	}
	d.Detail, d.Sequence = "all 3 attempts", 9
	got, _ := json.Marshal(back)
	want, _ := json.Marshal(d)
	if string(got) != string(want) {
		t.Errorf("dead letter\n got %s\nwant %s", got, want)
	}
}

func TestDecodeSubmission_TimesAreTheMomentThatIsMeant(t *testing.T) {
	event := binaryEvent(map[string]string{"ce-time": "2026-03-01t11:59:00z", "ce-deadline": "2026-03-31t23:59:60z", "ce-retryafter": "Sun, 01 Mar 2026 12:30:00 EST"})
	delete(event, "ce-firstfailure")
	structured := nats.Header{"Content-Type": {"application/cloudevents+json"}}
	for name, header := range map[string]nats.Header{
		"an envelope": structured,
		"an event":    event,
		"bare":        {"ce-time": {"2026-03-01t11:59:00z"}, "ce-deadline": {"2026-03-31t23:59:60z"}, "ce-retryafter": {"Sun, 01 Mar 2026 12:30:00 EST"}},
	} {
		op, err := DecodeSubmission(events.Subjects{}, submission("retry.submit.billing.charge", header, `{"specversion":"1.0","id":"1","source":"/s","type":"rebound.operation.failed.v1",`+
			`"time":"2026-03-01t11:59:00z","deadline":"2026-03-31t23:59:60z","retryafter":"Sun, 01 Mar 2026 12:30:00 EST","data":{"a":"<b>"}}`))
		if err != nil {
			t.Errorf("%s is rejected: %v", name, err)
			continue
		}
		for what, times := range map[string][2]time.Time{
			"first failure": {op.FirstFailure, time.Date(2026, 3, 1, 11, 59, 0, 0, time.UTC)},
			"deadline":      {op.Deadline, time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)},
			"retry after":   {op.RetryAfter, time.Date(2026, 3, 1, 17, 30, 0, 0, time.UTC)},
		} {
			if !times[0].Equal(times[1]) {
				t.Errorf("%s has the %s %s, want %s", name, what, times[0], times[1])
			}
		}
	}
	for value, want := range map[string]string{"2026-03-01T11:59:00": "names no time zone", "2026-03-01T11:59:60Z": "has a second 60"} {
		for _, name := range []string{"ce-time", "ce-deadline", "ce-firstfailure", "ce-retryafter"} {
			_, err := DecodeSubmission(events.Subjects{}, submission("retry.submit.billing.charge", binaryEvent(map[string]string{name: value}), ""))
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s %s gives %v, want an error with %q", name, value, err, want)
			}
		}
		envelope := `{"specversion":"1.0","id":"1","source":"/s","type":"rebound.operation.failed.v1","time":"` + value + `"}`
		if _, err := DecodeSubmission(events.Subjects{}, submission("retry.submit.billing.charge", structured, envelope)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s gives %v, want an error with %q", envelope, err, want)
		}
	}
}
