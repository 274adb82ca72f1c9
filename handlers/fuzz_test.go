package handlers

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/schemas"
)

// asked is a request with a body.
type asked struct {
	micro.Request
	data []byte
}

func (a asked) Data() []byte { return a.data }

// requests are the types that requests are read into, with an example of each.
var requests = []struct {
	into    func() any
	example string
}{
	{func() any { return new(struct{}) }, `{}`},
	{func() any { return new(schemas.HealthQuery) }, `{"service":"billing"}`},
	{func() any { return new(schemas.BreakerQuery) }, `{"service":"billing"}`},
	{func() any { return new(schemas.BreakerShow) }, `{"key":"billing:charge"}`},
	{func() any { return new(schemas.BreakerAct) }, `{"key":"billing:charge","forMs":1.5,"note":"moved"}`},
	{func() any { return new(schemas.PolicySource) }, `{"name":"p.yaml","source":"default: {}"}`},
	{func() any { return new(schemas.PolicyQuery) }, `{"service":"a","operation":"b","accountId":"c","priority":"high","overrides":{"maxattempts":"2"}}`},
	{func() any { return new(schemas.PolicyRollback) }, `{"revision":6}`},
	{func() any { return new(schemas.AdoptAdd) }, `{"stream":"S","consumer":"c","service":"s","operation":"o","target":"x.y"}`},
	{func() any { return new(schemas.AdoptRemove) }, `{"stream":"S","consumer":"c"}`},
	{func() any { return new(schemas.DeadShow) }, `{"id":"0f1e2d3c4b5a69788796a5b4c3d2e1f0"}`},
	{func() any { return new(schemas.DeadAct) }, `{"ids":["0f1e2d3c4b5a69788796a5b4c3d2e1f0"],"service":"a","since":"2026-03-01T12:00:00Z","all":true,"dryRun":true,"limit":3}`},
}

// FuzzRead reads any text as each request. A refusal is the requester's to fix; an
// accepted request keeps everything in the text.
func FuzzRead(f *testing.F) {
	for i, r := range requests {
		for _, data := range []string{
			r.example, "", "{}", "null", "[]", r.example + "{}", r.example + "]", r.example + "x", `{"x":1,` + r.example[1:], strings.ToUpper(r.example),
			strings.TrimSuffix(r.example, "}") + "," + r.example[1:], "\xff" + r.example, strings.Replace(r.example, `"`, "\"\xff", 1),
			strings.ReplaceAll(r.example, "3", "1e999"),
		} {
			f.Add(uint8(i), []byte(data))
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		kind := requests[int(which)%len(requests)]
		into := kind.into()
		if err := read(asked{data: data}, into); err != nil {
			if !errors.As(err, new(badRequestError)) || !utf8.ValidString(err.Error()) || len(err.Error()) > 500 {
				t.Fatalf("%q is refused with %q", data, err)
			}
			return
		}
		if len(data) == 0 {
			if !reflect.ValueOf(into).Elem().IsZero() {
				t.Fatalf("an empty request is read as %+v", into)
			}
			return
		}
		var given map[string]any
		if err := json.Unmarshal(data, &given); err != nil || given == nil {
			t.Fatalf("%q is accepted as %T, and is no object: %v", data, into, err)
		}
		written, err := json.Marshal(into)
		if err != nil {
			t.Fatal(err)
		}
		again := kind.into()
		if err := read(asked{data: written}, again); err != nil {
			t.Fatalf("%q is read as %s, which is refused: %v", data, written, err)
		}
		if twice, _ := json.Marshal(again); string(twice) != string(written) {
			t.Fatalf("%s is read again as %s", written, twice)
		}
		if act, ok := into.(*schemas.BreakerAct); ok && act.Check() == nil && (act.ForMs < 0 || events.Milliseconds(act.ForMs) > breaker.LongestTrip || len(act.Note) > breaker.MaxNote) {
			t.Fatalf("%q is accepted as %+v", data, act)
		}
		if act, ok := into.(*schemas.DeadAct); ok && bound(&act.DeadLetterFilter, schemas.MaxActLimit, schemas.MaxActLimit) == nil && (act.Limit < 1 || act.Limit > schemas.MaxActLimit) {
			t.Fatalf("%q is accepted with the limit %d", data, act.Limit)
		}
	})
}

// FuzzFailure reads any headers as a target's reply. Their letter case does not matter,
// and a reply with a failure is never taken for a success.
func FuzzFailure(f *testing.F) {
	f.Add(micro.ErrorCodeHeader, "503", micro.ErrorHeader, "busy", "Retry-After", "1.5")
	f.Add("nats-service-error-code", "503", "NATS-SERVICE-ERROR", "", "retry-after", "Wed, 21 Oct 2026 07:28:00 GMT")
	f.Add("Nats-Service-Error-Code", "", "nats-service-error-code", "409", "RETRY-AFTER", "-1")
	f.Add("X", "\xff", "", "", "Retry-After", "NaN")
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, a, b, c, d, e, g string) {
		h := nats.Header{}
		for _, pair := range [][2]string{{a, b}, {c, d}, {e, g}} {
			h[pair[0]] = append(h[pair[0]], pair[1])
		}
		got, failed := failure(h, now, func(error) {})
		tells := false
		for name, values := range h {
			isError := strings.EqualFold(name, micro.ErrorCodeHeader) || strings.EqualFold(name, micro.ErrorHeader)
			tells = tells || isError && values[0] != ""
		}
		exact := h[micro.ErrorCodeHeader] == nil && h[micro.ErrorHeader] == nil
		if failed && !tells || tells && !failed && exact && len(h) == 1 {
			t.Fatalf("%q is the failure %+v, %v", h, got, failed)
		}
		if got.RetryAfter < 0 || got.RetryAfter > events.MaxRetryAfter {
			t.Fatalf("%q asks to come back after %s", h, got.RetryAfter)
		}
		lower := nats.Header{}
		for name, values := range h {
			folded := strings.ToLower(name)
			if lower[folded] != nil || folded != strings.ToLower(strings.ToUpper(name)) {
				return
			}
			lower[folded] = values
		}
		if also, failedToo := failure(lower, now, func(error) {}); also != got || failedToo != failed {
			t.Fatalf("%q is the failure %+v, %v, in lower case %+v, %v", h, got, failed, also, failedToo)
		}
	})
}

func TestFailure_UnreadableRetryAfterIsIgnoredWithItsReason(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]string{
		"Sun, 01 Mar 2026 12:30:00 GMT": "", "30": "", "": "",
		"Sun, 01 Mar 2026 12:30:00 CET": "no fixed meaning", "2026-03-01T12:30:00": "no time zone",
	} {
		var got error
		f, failed := failure(nats.Header{micro.ErrorCodeHeader: {"503"}, "RETRY-AFTER": {value}}, now, func(err error) { got = err })
		if !failed || f.Code != "503" || (got != nil) != (want != "") || want != "" && !strings.Contains(got.Error(), want) || (f.RetryAfter > 0) != (want == "" && value != "") {
			t.Errorf("Retry-After %q gives %+v and the reason %v, want a reason with %q", value, f, got, want)
		}
	}
}
