package client

import (
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
)

// stored is a message in a stream.
type stored struct {
	jetstream.Msg
	data []byte
}

func (m stored) Data() []byte { return m.data }

func (m stored) Metadata() (*jetstream.MsgMetadata, error) {
	return &jetstream.MsgMetadata{Sequence: jetstream.SequencePair{Stream: 7}, Timestamp: time.Unix(1, 0)}, nil
}

// FuzzReadOutcome reads any text as an outcome. The error names the outcome, and an accepted
// outcome is encoded to the same text again.
func FuzzReadOutcome(f *testing.F) {
	op := &events.Operation{ID: "0f1e2d3c4b5a69788796a5b4c3d2e1f0", EventID: "1", Source: "/s", Service: "a", Operation: "b", Attempt: 2}
	failed := op.Ended(events.RetryFailed, time.Unix(9, 0))
	failed.Reason, failed.Error = events.ReasonExhausted, &events.Failure{Code: "503", Message: "busy"}
	for _, outcome := range []events.Outcome{op.Ended(events.RetrySuccess, time.Unix(9, 0)), failed} {
		whole, err := json.Marshal(outcome)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(whole)
		f.Add(append(whole, '}'))
	}
	for _, seed := range []string{"", "{}", "null", "[]", `{"attempts":1e99}`, `{"error":{"code":503}}`, `{"later":1}`, "\xff"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := readOutcome(stored{data: data})
		if o.Sequence != 7 {
			t.Fatalf("outcome 7 is read with sequence %d", o.Sequence)
		}
		if err != nil {
			if !strings.Contains(err.Error(), "outcome 7") {
				t.Fatalf("the error %v does not name the outcome", err)
			}
			return
		}
		written, err := json.Marshal(o.Outcome)
		if err != nil {
			t.Fatal(err)
		}
		again, err := readOutcome(stored{data: written})
		if twice, _ := json.Marshal(again.Outcome); err != nil || string(twice) != string(written) {
			t.Fatalf("%s is encoded again as %s, %v", written, twice, err)
		}
	})
}

// FuzzHeaders reads any headers as those of a redelivery and of a reply, in any letter case.
func FuzzHeaders(f *testing.F) {
	for _, seed := range []string{
		"Retry-Id: 1\nRetry-Attempt: 2\nRetry-First-Failure: 2026-03-01T12:00:00Z\nRetry-Deadline: 2026-03-01T13:00:00Z\nRetry-Repeated: true\nRetry-Replay: 1",
		"Retry-Id: 1\nRetry-Attempt: 0", "Retry-Attempt: 99999999999999999999\nRetry-Id: 1", "Retry-Replay: -1\nRetry-Attempt: 1\nRetry-Id: \nRetry-Deadline: never",
		"Nats-Service-Error-Code: 503\nNats-Service-Error: busy\nRetry-After: 2", "Nats-Service-Error: \xff\nRetry-After: 1e18", "",
	} {
		f.Add(seed)
		f.Add(strings.ToLower(seed))
	}
	f.Fuzz(func(t *testing.T, text string) {
		h, upper := nats.Header{}, nats.Header{}
		for line := range strings.Lines(text) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			if upper[strings.ToUpper(name)] != nil || strings.ContainsFunc(name, func(r rune) bool { return r > unicode.MaxASCII }) {
				return // two headers that differ only in letter case, or not ASCII
			}
			h[name] = []string{strings.TrimSpace(value)}
			upper[strings.ToUpper(name)] = h[name]
		}
		r, other := newRequest("x", h, nil), newRequest("x", upper, nil)
		if r.ID != other.ID || r.Attempt != other.Attempt || r.FirstFailure != other.FirstFailure || r.Deadline != other.Deadline || r.Repeated != other.Repeated || r.Replays != other.Replays {
			t.Fatalf("%q is read as %+v, in capitals as %+v", h, r, other)
		}
		if r.Attempt < 1 || r.Replays < 0 || !r.Redelivered() && (r.Attempt != 1 || r.Replays != 0 || r.Repeated) {
			t.Fatalf("%q is read as %+v", h, r)
		}
		err, otherErr := ErrorFromReply(&nats.Msg{Header: h}), ErrorFromReply(&nats.Msg{Header: upper})
		if (err == nil) != (otherErr == nil) {
			t.Fatalf("%q fails with %v, in capitals with %v", h, err, otherErr)
		}
		if err == nil {
			return
		}
		var said, also *Error
		if !errors.As(err, &said) || !errors.As(otherErr, &also) || said.Code != also.Code || said.Message != also.Message || said.RetryAfter < 0 || said.RetryAfter > events.MaxRetryAfter {
			t.Fatalf("%q fails with %#v, in capitals with %#v", h, err, otherErr)
		}
	})
}

// FuzzFailureOf submits an operation with any failure. The submission is never refused because of
// it.
func FuzzFailureOf(f *testing.F) {
	f.Add("503", "busy", int64(time.Second))
	f.Add(strings.Repeat("é", events.MaxCode), strings.Repeat("€", events.MaxError), int64(-1))
	f.Add("x"+strings.Repeat("é", 64), "a\x00\r\nb", int64(1)<<62)
	f.Add("\xff\xfe", "\xed\xa0\x80", int64(0))
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, code, message string, after int64) {
		err := &Error{Code: code, Message: message, RetryAfter: time.Duration(after)}
		failure := failureOf(err)
		if len(failure.Message) > events.MaxError || !utf8.ValidString(failure.Message) || !utf8.ValidString(cut(failure.Code, events.MaxCode)) || len(cut(failure.Code, events.MaxCode)) > events.MaxCode {
			t.Fatalf("%#v is the failure %+v", err, failure)
		}
		h := nats.Header{
			"ce-errorcode":    {url.PathEscape(cut(failure.Code, events.MaxCode))},
			"ce-errormessage": {url.PathEscape(failure.Message)},
		}
		op, rejected := wire.DecodeSubmission(events.Subjects{}, wire.Submission{Subject: "retry.submit.a.b", Header: h, Name: "n", Received: now})
		if rejected != nil {
			t.Fatalf("%#v is refused: %v", err, rejected)
		}
		if last, _ := op.Last(); last.Code != cut(failure.Code, events.MaxCode) || last.Error != failure.Message {
			t.Fatalf("%+v arrives as %+v", failure, last)
		}
	})
}
