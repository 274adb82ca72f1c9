package wire_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
)

const reportSubject = "retry.report.billing.charge"

func reportHeader(more ...string) nats.Header {
	h := nats.Header{
		"Retry-Id": {"0f1e2d3c4b5a69788796a5b4c3d2e1f0"}, "Retry-Attempt": {"2"}, "Retry-Token": {"secret"}, "Retry-Result": {"success"},
	}
	for i := 0; i < len(more); i += 2 {
		h[more[i]] = []string{more[i+1]}
	}
	return h
}

func TestDecodeReport_ReadsEveryForm(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	want := events.Report{ID: "0f1e2d3c4b5a69788796a5b4c3d2e1f0", Attempt: 2, Token: "secret", Result: events.Failed, Code: "503", Error: "busy", RetryAfterMs: 1500}
	binary, err := wire.EncodeReport(reportSubject, want, wire.Envelope{Source: "/worker", ID: "1", Time: at})
	if err != nil {
		t.Fatal(err)
	}
	const data = `{"id":"0f1e2d3c4b5a69788796a5b4c3d2e1f0","attempt":2,"token":"secret","result":"failure","code":"503","error":"busy","retryAfterMs":1500}`
	for name, m := range map[string]*nats.Msg{
		"binary mode":     binary,
		"bare data":       {Data: []byte(data)},
		"structured mode": {Header: nats.Header{"Content-Type": {"application/cloudevents+json"}}, Data: []byte(`{"specversion":"1.0","id":"1","source":"/w","type":"rebound.report.v1","data":` + data + `}`)},
		"headers alone":   {Header: reportHeader("Retry-Result", "failure", "Nats-Service-Error-Code", "503", "Nats-Service-Error", "busy", "Retry-After", "1.5")},
		"headers in lower case": {Header: nats.Header{
			"retry-id": {want.ID}, "retry-attempt": {"2"}, "retry-token": {"secret"}, "retry-result": {"failure"},
			"nats-service-error-code": {"503"}, "nats-service-error": {"busy"}, "retry-after": {"1.5"},
		}},
	} {
		m.Subject = reportSubject
		service, operation, got, err := wire.DecodeReport(events.Subjects{}, m, at)
		if err != nil || got != want || service != "billing" || operation != "charge" {
			t.Errorf("a report in %s is read as %+v of %s:%s with error %v, want %+v of billing:charge", name, got, service, operation, err, want)
		}
	}
}

func TestDecodeReport_UnreadableSaysWhyAndKeepsTheToken(t *testing.T) {
	for name, c := range map[string]struct {
		m    *nats.Msg
		says string
	}{
		"a subject with one token":     {&nats.Msg{Subject: "retry.report.billing", Header: reportHeader()}, "it needs two"},
		"another subject":              {&nats.Msg{Subject: "retry.submit.billing.charge", Header: reportHeader()}, "is not under"},
		"no report":                    {&nats.Msg{Subject: reportSubject}, "neither the header"},
		"data that is cut off":         {&nats.Msg{Subject: reportSubject, Data: []byte(`{"token":"secret"`)}, "neither the header"},
		"an unknown property":          {&nats.Msg{Subject: reportSubject, Data: []byte(`{"token":"secret","outcome":1}`)}, "neither the header"},
		"more than a report":           {&nats.Msg{Subject: reportSubject, Data: []byte(`{"token":"secret"} {}`)}, "neither the header"},
		"a bracket behind it":          {&nats.Msg{Subject: reportSubject, Data: []byte(`{"token":"secret"}]`)}, "something follows"},
		"a property twice":             {&nats.Msg{Subject: reportSubject, Data: []byte(`{"token":"secret","token":"secret"}`)}, "stands twice"},
		"a property in capitals":       {&nats.Msg{Subject: reportSubject, Data: []byte(`{"TOKEN":"secret"}`)}, "unknown field"},
		"too much":                     {&nats.Msg{Subject: reportSubject, Data: make([]byte, 20<<10)}, "more than the"},
		"an id with a wildcard":        {&nats.Msg{Subject: reportSubject, Header: reportHeader("Retry-Id", "*")}, "no operation's"},
		"attempt 0":                    {&nats.Msg{Subject: reportSubject, Header: reportHeader("Retry-Attempt", "0")}, "attempt 0"},
		"an attempt that is no number": {&nats.Msg{Subject: reportSubject, Header: reportHeader("Retry-Attempt", "two")}, "no whole number"},
		"no token":                     {&nats.Msg{Subject: reportSubject, Header: reportHeader("Retry-Token", "")}, "token is missing"},
		"an unknown result":            {&nats.Msg{Subject: reportSubject, Header: reportHeader("Retry-Result", "done")}, "none of success"},
		"a success that failed":        {&nats.Msg{Subject: reportSubject, Header: reportHeader("Nats-Service-Error", "x")}, "tells of an error"},
		"a strange Retry-After":        {&nats.Msg{Subject: reportSubject, Header: reportHeader("Retry-Result", "failure", "Retry-After", "soon")}, "neither seconds nor a date"},
		"another type": {&nats.Msg{Subject: reportSubject, Header: reportHeader("ce-specversion", "1.0", "ce-id", "1", "ce-source", "/w",
			"ce-type", "rebound.health.v1")}, "is not rebound.report.v1"},
		"another service": {&nats.Msg{Subject: reportSubject, Header: reportHeader("ce-specversion", "1.0", "ce-id", "1", "ce-source", "/w",
			"ce-type", "rebound.report.v1", "ce-service", "other")}, "differs from"},
	} {
		_, _, _, err := wire.DecodeReport(events.Subjects{}, c.m, time.Now())
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got error %v, want one that says %q and not the token", name, err, c.says)
		}
	}
}

func FuzzDecodeReport(f *testing.F) {
	f.Add("retry.report.a.b", "success", "1", []byte(`{"id":"0f1e2d3c4b5a69788796a5b4c3d2e1f0","attempt":2,"token":"t","result":"working"}`))
	f.Add("retry.report.a.b", "", "2", []byte(`{"id":`))
	f.Add("retry.report.a", "failure", "x", []byte(nil))
	f.Fuzz(func(t *testing.T, subject, result, attempt string, data []byte) {
		h := nats.Header{"Retry-Id": {"0f1e2d3c4b5a69788796a5b4c3d2e1f0"}, "Retry-Attempt": {attempt}, "Retry-Token": {"t"}}
		if result != "" {
			h["Retry-Result"] = []string{result}
		}
		service, operation, r, err := wire.DecodeReport(events.Subjects{}, &nats.Msg{Subject: subject, Header: h, Data: data}, time.Now())
		if err != nil {
			return
		}
		m, err := wire.EncodeReport(events.Subjects{}.Report(service, operation), r, wire.Envelope{Source: "/w", ID: "1", Time: time.Now()})
		if err != nil {
			t.Fatalf("report %+v was read and cannot be written: %v", r, err)
		}
		if _, _, again, err := wire.DecodeReport(events.Subjects{}, m, time.Now()); err != nil || again != r {
			t.Errorf("report %+v is read again as %+v with error %v", r, again, err)
		}
	})
}
