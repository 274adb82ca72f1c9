package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/clip"
)

// headerOf reads one header per line, with a colon between name and value, so that a fuzz target
// can have any header.
func headerOf(text string) nats.Header {
	h := nats.Header{}
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ":")
		if ok {
			h[name] = append(h[name], strings.TrimSpace(value))
		}
	}
	return h
}

const seedID = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"

// wholeEvent is a submission in binary mode with every attribute.
const wholeEvent = `ce-specversion: 1.0
ce-id: 42
ce-source: /billing
ce-type: rebound.operation.failed.v1
ce-subject: order/1
ce-time: 2026-03-01T11:59:00Z
ce-service: a
ce-operation: b
ce-target: billing.charge.v2
ce-priority: high
ce-attempt: 3
ce-accountid: acc
ce-campaignid: camp
ce-errorcode: 503
ce-errormessage: busy%20now
ce-retryafter: 30
ce-deadline: 2026-03-01T13:00:00Z
ce-firstfailure: 2026-03-01T11:59:00Z
ce-delivery: publish
ce-maxattempts: 7
ce-unknown: kept
traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
Content-Type: application/json
X-Tenant: 7
`

// reject checks that an error is a rejection that names only what may stand in a subject.
func reject(t *testing.T, err error) {
	t.Helper()
	var rejected *events.RejectedError
	if !errors.As(err, &rejected) {
		t.Fatalf("error %v is no rejection", err)
	}
	for _, name := range []string{rejected.Service, rejected.Operation} {
		if name != events.Invalid && events.CheckName(name) != nil {
			t.Fatalf("the rejection names %q, which may not stand in a subject", name)
		}
	}
}

// accepted checks what is true of every decoded operation.
func accepted(t *testing.T, op *events.Operation, submission nats.Header) {
	t.Helper()
	if events.CheckName(op.Service) != nil || events.CheckName(op.Operation) != nil || op.Attempt < 1 || op.EventID == "" || op.Source == "" || !events.IsOperationID(op.ID) {
		t.Fatalf("accepted %+v", op)
	}
	if op.Target != "" && (events.Subjects{}).CheckTarget(op.Target) != nil {
		t.Fatalf("accepted the target %q", op.Target)
	}
	for _, text := range []string{op.EventID, op.Source, op.Type, op.Subject, op.Account, op.Campaign, op.TraceParent, op.Target} {
		if len(text) > events.MaxAttribute || !utf8.ValidString(text) || strings.ContainsAny(text, "\r\n\x00") {
			t.Fatalf("accepted the attribute %q", text)
		}
	}
	again := throughHeader(t, op)
	if !reflect.DeepEqual(again, op) {
		t.Fatalf("the state reads back as\n%+v, want\n%+v", again, op)
	}
	if size := headerSize(submission); size > events.MaxHeaders {
		t.Fatalf("accepted headers of %d bytes", size)
	}
	target := TargetHeader(op, submission, 2, true)
	for _, name := range []string{events.HeaderState, events.HeaderWork, "Nats-Msg-Id", "Nats-Schedule", events.HeaderToken} {
		if HeaderValue(target, name) != "" {
			t.Fatalf("the target would see %s: %v", name, target)
		}
	}
	if target.Get(events.HeaderID) != op.ID || target.Get(events.HeaderAttempt) != "2" || HeaderValue(target, "ce-specversion") == "" && HeaderValue(target, "content-type") == "" {
		t.Fatalf("the target sees %v", target)
	}
	if _, err := EncodeEvent("x", Event{Name: events.RetryFailed, ID: op.OutcomeID(), About: op.About(), Time: received, Data: op.Ended(events.RetryFailed, received)}); err != nil {
		t.Fatalf("its outcome cannot be encoded: %v", err)
	}
}

// throughHeader writes an operation's state to a header and reads it back.
func throughHeader(t *testing.T, op *events.Operation) *events.Operation {
	t.Helper()
	h := nats.Header{}
	if err := PutState(op, h); err != nil {
		t.Fatal(err)
	}
	for name, values := range h {
		if len(values) != 1 || strings.ContainsAny(values[0], "\r\n") {
			t.Fatalf("header %s is not one line: %q", name, values)
		}
	}
	again, err := ReadState(h)
	if err != nil {
		t.Fatalf("the state cannot be read back: %v\n%v", err, h)
	}
	return again
}

func FuzzDecodeSubmission(f *testing.F) {
	f.Add("retry.submit.a.b", wholeEvent, []byte(`{"id":1}`))
	f.Add("retry.submit.a.b", strings.ToUpper(wholeEvent), []byte(nil))
	f.Add("retry.submit.a.b", "", []byte(`{"id":1}`))
	f.Add("retry.submit.a.b", "ce-errorcode: 429\nCE-ErrorCode: 503\nRetry-After: 5\nnats-msg-id: 1\nretry-state: {}", []byte("x"))
	f.Add("retry.submit.a.b", "content-type: application/cloudevents-batch+json", []byte(`[]`))
	f.Add("retry.submit.a.b", "ce-specversion: 0.3\nce-id: 1\nce-source: /s\nce-type: t", []byte("x"))
	f.Add("retry.submit.*.>", "ce-target: $SYS.>", []byte(nil))
	f.Add("retry.submit", "ce-deadline: %00\nce-attempt: 99999999999999999999", []byte{0xff})
	f.Add("retry.submit.a.b", "ce-deadline: 9999-12-31T23:59:59-23:00\nce-retryafter: 0000-01-01T00:00:00+01:00\nce-firstfailure: 1970-01-01T00:00:00+14:00", []byte(nil))
	f.Add("retry.submit.a.b", "ce-errormessage: "+strings.Repeat("é", events.MaxError)+"\nce-errorcode: "+strings.Repeat("x", 126)+"é", []byte(nil))
	f.Fuzz(func(t *testing.T, subject, headers string, data []byte) {
		h := headerOf(headers)
		s := Submission{Subject: subject, Header: h, Data: data, Name: "n-1", Received: received}
		op, err := DecodeSubmission(events.Subjects{}, s)
		again, errAgain := DecodeSubmission(events.Subjects{}, s)
		if (err == nil) != (errAgain == nil) || !reflect.DeepEqual(op, again) {
			t.Fatalf("decoded as %+v, %v and then as %+v, %v", op, err, again, errAgain)
		}
		if err != nil {
			reject(t, err)
			return
		}
		accepted(t, op, h)
	})
}

func FuzzDecodeStructured(f *testing.F) {
	for _, data := range []string{
		`{"specversion":"1.0","id":"1","source":"/s","type":"rebound.operation.failed.v1","attempt":2,"errorcode":"UNAVAILABLE","data":{"amount":3}}`,
		`{"specversion":"1.0","id":"1","source":"/s","type":"t","data_base64":1}`,
		`{"specversion":"1.0","id":"1","source":"/s","type":"t","time":"0000-01-01T00:00:00+01:00"}`,
		`{"specversion":"1.0","id":"1","source":"/s","type":"t","deadline":"9999-12-31T23:59:59-23:00","retryafter":1e99}`,
		`{"specversion":"1.0","id":"1","source":"/s","type":"t"} {}`, `{"specversion":"1.0","id":"1","id":"2","source":"/s","type":"t"}`,
		"{\"specversion\":\"1.0\",\"id\":\"\xff\",\"source\":\"/s\",\"type\":\"t\"}", `{"specversion":null}`, `[]`, `{"specversion":"0.3","id":"1","source":"/s","type":"t","datacontentencoding":"base64","data":"x"}`,
	} {
		f.Add("application/cloudevents+json", []byte(data))
		f.Add("Application/CloudEvents+JSON; charset=utf-8", []byte(data))
	}
	f.Fuzz(func(t *testing.T, contentType string, data []byte) {
		h := nats.Header{"Content-Type": {contentType}}
		op, err := DecodeSubmission(events.Subjects{}, Submission{Subject: "retry.submit.a.b", Header: h, Data: data, Name: "n-1", Received: received})
		if err != nil {
			reject(t, err)
			if len(err.Error()) > 4<<10 {
				t.Fatalf("the error has %d bytes", len(err.Error()))
			}
			return
		}
		accepted(t, op, h)
		if m := (message{header: h, data: data}); m.ReadEncoding().String() == "structured" && !json.Valid(data) {
			t.Fatalf("accepted an envelope that is not JSON: %q", data)
		}
	})
}

// FuzzHeaderCase changes the letter case of the headers of a submission and of a report, which
// must have no effect.
func FuzzHeaderCase(f *testing.F) {
	f.Add(wholeEvent, uint64(0x5555555555555555))
	f.Add("ce-priority: low\nContent-Type: application/json\ntraceparent: x", uint64(1))
	f.Add("Retry-Id: "+seedID+"\nRetry-Attempt: 2\nRetry-Token: t\nRetry-Result: failure\nNats-Service-Error-Code: 503\nRetry-After: 3", ^uint64(0))
	f.Add("a: 1\nA: 2", uint64(7))
	f.Fuzz(func(t *testing.T, headers string, pattern uint64) {
		h := headerOf(headers)
		other, names := nats.Header{}, map[string]bool{}
		for name, values := range h {
			if folded := strings.ToLower(name); names[folded] || folded != strings.ToLower(strings.ToUpper(name)) {
				return // two headers that differ only in letter case, or not ASCII
			}
			names[strings.ToLower(name)] = true
			other[recased(name, pattern)] = values
		}
		for name := range h {
			if HeaderValue(h, name) != HeaderValue(other, name) {
				t.Fatalf("%s is %q and, as %v, %q", name, HeaderValue(h, name), other, HeaderValue(other, name))
			}
		}
		decode := func(h nats.Header) (*events.Operation, error) {
			return DecodeSubmission(events.Subjects{}, Submission{Subject: "retry.submit.a.b", Header: h, Name: "n-1", Received: received})
		}
		a, errA := decode(h)
		b, errB := decode(other)
		if (errA == nil) != (errB == nil) || !reflect.DeepEqual(a, b) {
			t.Fatalf("%v is decoded as %+v, %v\n%v as %+v, %v", h, a, errA, other, b, errB)
		}
		report := func(h nats.Header) (events.Report, bool) {
			_, _, r, err := DecodeReport(events.Subjects{}, &nats.Msg{Subject: "retry.report.a.b", Header: h}, received)
			return r, err == nil
		}
		r, ok := report(h)
		if s, also := report(other); ok != also || r != s {
			t.Fatalf("%v is read as the report %+v, %v as %+v", h, r, other, s)
		}
	})
}

// recased swaps the case of those letters of a name for which pattern has a bit set.
func recased(name string, pattern uint64) string {
	out := []byte(name)
	for i, c := range out {
		if pattern>>(i%64)&1 == 1 && ('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z') {
			out[i] = c ^ 0x20
		}
	}
	return string(out)
}

func FuzzCarriedHeader(f *testing.F) {
	f.Add(wholeEvent)
	f.Add("Nats-Msg-Id: 1\nNATS-Schedule: x\nretry-state: {}\nRetry-After: 1\nX: 1\nX: 2\n: empty\nNats: kept\nRetry-Budget: 7\nnats-expected-x: 1")
	f.Fuzz(func(t *testing.T, headers string) {
		h := headerOf(headers)
		got := CarriedHeader(h)
		for name, values := range h {
			owned := slices.ContainsFunc(slices.Concat(events.OwnHeaders, events.ServerHeaders), func(listed string) bool {
				family, all := strings.CutSuffix(strings.ToLower(listed), "*")
				letters := []rune(name)
				begins := strings.EqualFold(string(letters[:min(len(letters), len(family))]), family)
				return begins && (all || len(letters) == len(family))
			})
			if kept, ok := got[name]; ok == owned || ok && !reflect.DeepEqual(kept, values) {
				t.Errorf("header %q of %v becomes %q", name, values, kept)
			}
		}
		if again := CarriedHeader(got); len(got) > len(h) || !reflect.DeepEqual(again, got) {
			t.Errorf("%v is carried as %v and then as %v", h, got, again)
		}
	})
}

// states are operations as stored.
var states = []string{
	`{"id":"` + seedID + `","eventId":"1","source":"/s","service":"s","operation":"o","priority":"high","attempt":1,"firstFailure":"2026-03-01T12:00:00Z","submitted":"2026-03-01T12:00:00Z"}`,
	`{"id":"a","attempt":-1,"priority":"x"}`, `null`, `{}`, `[]`, `{"id":"*","attempt":1,"service":"s","operation":"o"}`,
	`{"id":"a","attempt":0,"replay":1,"service":"s","operation":"o","history":[{"attempt":1,"durationMs":1e300,"delayMs":-1}],"ruleUses":{"r":-1}}`,
	`{"id":"a","attempt":9223372036854775807,"service":"s","operation":"o"}`, `{"id":"a","attempt":1,"service":"s","operation":"o"} {}`,
	`{"id":"a","attempt":1,"service":"s","operation":"o","due":"9999-12-31T23:59:59-23:00","submitted":"0000-01-01T00:00:00+23:00"}`,
	`{"id":"a","attempt":1,"service":"s","operation":"o","later":{"version":2}}`,
	`{"id":"a","attempt":1,"service":"s","operation":"o","firstFailure":"2026-03-01T12:00:00Z","paused":true,"elapsesFrom":"2026-03-02T12:00:00Z"}`,
}

func FuzzReadState(f *testing.F) {
	const work = `{"token":"t","attempt":2,"target":"x.y","started":"2026-03-01T12:00:00Z","probe":"p","result":{"at":"2026-03-01T12:00:01Z","failed":true,"code":"503"}}`
	for _, state := range states {
		f.Add(state, "")
		f.Add(state, work)
	}
	f.Add(states[0], `{"token":"","attempt":0}`)
	f.Add(states[0], `{"token":"t","attempt":1e3}`)
	f.Fuzz(func(t *testing.T, state, work string) {
		h := nats.Header{events.HeaderState: {state}}
		if work != "" {
			h[events.HeaderWork] = []string{work}
		}
		op, err := ReadState(h)
		if err != nil {
			if op != nil {
				t.Fatalf("an error and %+v", op)
			}
			return
		}
		if events.CheckName(op.ID) != nil || events.CheckName(op.Service) != nil || events.CheckName(op.Operation) != nil || op.Attempt < 0 || op.Replay < 0 ||
			(op.Work != nil) != (work != "") || op.Work != nil && (op.Work.Token == "" || op.Work.Attempt < 1 || !op.Work.HasToken(op.Work.Token)) {
			t.Fatalf("accepted %+v with work %+v", op, op.Work)
		}
		// A time may have several spellings, so the comparison is with what was written once.
		once := throughHeader(t, op)
		if twice := throughHeader(t, once); !reflect.DeepEqual(once, twice) {
			t.Fatalf("%+v reads back as %+v", once, twice)
		}
		op.Record(events.Attempt{Number: op.Attempt, Error: state, Code: work})
		last, _ := op.Last()
		if len(last.Error) > events.MaxError+len("…") || !utf8.ValidString(last.Error) {
			t.Fatalf("an error is kept as %q", last.Error)
		}
		throughHeader(t, op)
		op.PreviousDelay()
		if _, err := EncodeEvent("x", Event{Name: events.RetryFailed, ID: op.OutcomeID(), About: op.About(), Time: received, Data: op.Ended(events.RetryFailed, received)}); err != nil {
			t.Fatalf("its outcome cannot be encoded: %v", err)
		}
	})
}

func FuzzDecodeDeadLetter(f *testing.F) {
	letter := func(more ...string) string {
		return strings.Join(append([]string{"Retry-Reason: exhausted", "Retry-Detail: all 3 attempts", "Retry-Died-At: 2026-03-01T12:00:00Z", "Retry-Submitted-To: retry.submit.s.o"}, more...), "\n")
	}
	for _, state := range states {
		f.Add("retry.dead.s.o."+seedID, letter("Retry-State: "+state, "X-Tenant: 7"), []byte("data"))
	}
	f.Add("retry.dead.s.o."+seedID, letter("Retry-Truncated: many"), []byte(nil))
	f.Add("retry.dead.-invalid-.-invalid-."+seedID, strings.ToLower(letter("Retry-Truncated: 17")), []byte("x"))
	f.Add("retry.dead.x", "", []byte("foreign"))
	f.Add("retry.dead.a.b.c.d", letter(), []byte(nil))
	f.Add("x", "", []byte(nil))
	f.Fuzz(func(t *testing.T, subject, headers string, data []byte) {
		h := headerOf(headers)
		d, err := DecodeDeadLetter(subject, 9, h, data)
		if err != nil {
			if d != nil || strings.HasPrefix(subject, "retry.dead.") {
				t.Fatalf("a message of the stream is no dead letter: %+v, %v", d, err)
			}
			return
		}
		if !events.IsOperationID(d.ID) || d.Reason == "" || d.Truncated < 0 || !bytes.Equal(d.Data, data) {
			t.Fatalf("%q with %v is read as %+v", subject, h, d)
		}
		if d.State == nil && len(h[events.HeaderState]) > 0 && d.Reason != events.ReasonRejected {
			t.Fatalf("a dead letter lost its state and does not say so: %+v", d)
		}
		if _, err := json.Marshal(d); err != nil {
			t.Fatalf("it cannot be shown: %v", err)
		}
		m, err := EncodeDeadLetter(events.Subjects{}, d)
		if err != nil {
			t.Fatalf("%+v was read and cannot be written: %v", d, err)
		}
		again, err := DecodeDeadLetter(m.Subject, 9, m.Header, m.Data)
		if err != nil {
			t.Fatal(err)
		}
		d.Detail = clip.Line(d.Detail)
		a, _ := json.Marshal(d)
		b, _ := json.Marshal(again)
		if string(a) != string(b) {
			t.Fatalf("it is read again as\n%s, want\n%s", b, a)
		}
	})
}
