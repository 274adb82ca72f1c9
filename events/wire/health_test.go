package wire_test

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
)

func ptr[T any](v T) *T { return &v }

func TestDecodeHealth_ReadsEveryMode(t *testing.T) {
	const data = `{"cpuUtilization":95.5,"queueLength":12,"successRate":0.9}`
	want := events.HealthReport{CPUUtilization: ptr(95.5), QueueLength: ptr(12), SuccessRate: ptr(0.9)}
	binary := map[string]string{"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/pool", "ce-type": events.TypeHealth}
	with := func(more map[string]string) nats.Header {
		h := nats.Header{}
		for _, m := range []map[string]string{binary, more} {
			for k, v := range m {
				h[k] = []string{v}
			}
		}
		return h
	}
	envelope := `{"specversion":"1.0","id":"1","source":"/pool","type":"rebound.health.v1","service":"connection_pool","data":` + data + `}`
	for _, c := range []struct {
		name   string
		header nats.Header
		data   string
	}{
		{"bare JSON", nil, data},
		{"bare JSON with a content type", nats.Header{"Content-Type": {"application/json"}}, data},
		{"binary mode", with(nil), data},
		{"binary mode with its content type and service", with(map[string]string{"content-type": "application/json; charset=utf-8", "ce-service": "connection_pool"}), data},
		{"binary mode in other letters", nats.Header{"CE-Specversion": {"1.0"}, "Ce-Id": {"1"}, "CE-SOURCE": {"/pool"}, "ce-Type": {events.TypeHealth}}, data},
		{"structured mode", nats.Header{"content-type": {"application/cloudevents+json"}}, envelope},
		{"numbers in other notations", nil, `{"cpuUtilization":9.55e1,"queueLength":12.0,"successRate":0.90}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			service, got, err := wire.DecodeHealth(events.Subjects{}, &nats.Msg{Subject: "retry.health.connection_pool", Header: c.header, Data: []byte(c.data)})
			if err != nil || service != "connection_pool" || !reflect.DeepEqual(got, want) {
				t.Errorf("got %s, %+v, %v", service, got, err)
			}
		})
	}
}

func TestDecodeHealth_BadReportIsRefusedWithWhatIsWrong(t *testing.T) {
	binary := func(k, v string) nats.Header {
		h := nats.Header{"ce-specversion": {"1.0"}, "ce-id": {"1"}, "ce-source": {"/pool"}, "ce-type": {events.TypeHealth}}
		h[k] = []string{v}
		return h
	}
	structured := nats.Header{"content-type": {"application/cloudevents+json"}}
	const ok = `{"cpuUtilization":1}`
	for _, c := range []struct {
		name, subject string
		header        nats.Header
		data, want    string
	}{
		{"another subject", "retry.submit.a.b", nil, ok, `subject "retry.submit.a.b" is not under retry.health`},
		{"no service", "retry.health.", nil, ok, "service in subject is empty"},
		{"two tokens", "retry.health.a.b", nil, ok, `service in subject "a.b" has the character '.'`},
		{"a service that starts with a dash", "retry.health.-a", nil, ok, "starts with a dash"},
		{"nothing", "retry.health.a", nil, ``, "the data is not a JSON object"},
		{"no JSON", "retry.health.a", nil, `secret`, "the data is not a JSON object"},
		{"a list", "retry.health.a", nil, `[]`, "the data is not a JSON object"},
		{"null", "retry.health.a", nil, `null`, "the data is not a JSON object"},
		{"no figure", "retry.health.a", nil, `{}`, "the data reports no figure"},
		{"a misspelt figure", "retry.health.a", nil, `{"cpu":1}`, `"cpu" is none of the figures activeConnections, averageResponseTime, cpuUtilization, `},
		{"a figure in other letters", "retry.health.a", nil, `{"CPUUtilization":1}`, `"CPUUtilization" is none of the figures`},
		{"a text", "retry.health.a", nil, `{"cpuUtilization":"5"}`, "cpuUtilization is no number"},
		{"a figure twice", "retry.health.a", nil, `{"queueLength":1,"queueLength":2}`, `"queueLength" stands twice`},
		{"null for a figure", "retry.health.a", nil, `{"cpuUtilization":null}`, "cpuUtilization is no number"},
		{"more than all of the CPU", "retry.health.a", nil, `{"cpuUtilization":100.1}`, "cpuUtilization is 100.1, not between 0 and 100"},
		{"a negative count", "retry.health.a", nil, `{"queueLength":-1}`, "queueLength is -1, not between 0 and 1000000000"},
		{"half a connection", "retry.health.a", nil, `{"activeConnections":1.5}`, "activeConnections is 1.5, no whole number"},
		{"a rate in percent", "retry.health.a", nil, `{"successRate":95}`, "successRate is 95, not between 0 and 1"},
		{"an enormous number", "retry.health.a", nil, `{"systemLoad":1e999}`, "systemLoad is 1e999, not between 0 and 1000000000"},
		{"several issues at once", "retry.health.a", nil, `{"errorRate":2,"poolUtilization":-5}`, "errorRate is 2, not between 0 and 1\npoolUtilization is -5, not between 0 and 100"},
		{"too much", "retry.health.a", nil, strings.Repeat(" ", 17000) + ok, "has 17020 bytes, more than the 16384 allowed"},
		{"another type", "retry.health.a", binary("ce-type", "rebound.operation.failed.v1"), ok, `type "rebound.operation.failed.v1" is not rebound.health.v1`},
		{"another service", "retry.health.a", binary("ce-service", "b"), ok, `attribute service "b" differs from "a" in the subject`},
		{"no source", "retry.health.a", binary("ce-source", ""), ok, "not a valid CloudEvent"},
		{"an unknown version", "retry.health.a", binary("ce-specversion", "9"), ok, "reading the CloudEvent in binary mode"},
		{"another content type", "retry.health.a", binary("content-type", "text/xml"), ok, `content type "text/xml" is not JSON`},
		{"a batch", "retry.health.a", nats.Header{"content-type": {"application/cloudevents-batch+json"}}, `[]`, "a batch of CloudEvents is not accepted"},
		{"an envelope that is no JSON", "retry.health.a", structured, `{`, "reading the CloudEvent in structured mode: the envelope is not valid JSON"},
		{"an envelope without data", "retry.health.a", structured, `{"specversion":"1.0","id":"1","source":"/a","type":"rebound.health.v1"}`, "the data is not a JSON object"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, report, err := wire.DecodeHealth(events.Subjects{}, &nats.Msg{Subject: c.subject, Header: c.header, Data: []byte(c.data)})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got the error %v, want %q", err, c.want)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the error shows the data: %v", err)
			}
			if report != (events.HealthReport{}) {
				t.Errorf("a refused report still says %+v", report)
			}
		})
	}
}

func TestEncodeHealth_ReportComesBackFromItsMessage(t *testing.T) {
	want := events.HealthReport{
		CPUUtilization: ptr(1.5), MemoryUtilization: ptr(2.5), PoolUtilization: ptr(100.0), SystemLoad: ptr(0.0), ActiveConnections: ptr(0),
		QueueLength: ptr(1_000_000_000), SuccessRate: ptr(0.25), ErrorRate: ptr(0.75), AverageResponseTime: ptr(1e-3),
	}
	subjects := events.Subjects{Prefix: "again"}
	m, err := wire.EncodeHealth(subjects, "pool", want, wire.Envelope{Source: "/pool/eu", ID: "1", Time: time.Unix(1, 0)})
	if err != nil {
		t.Fatal(err)
	}
	service, got, err := wire.DecodeHealth(subjects, m)
	if err != nil || service != "pool" || !reflect.DeepEqual(got, want) {
		t.Errorf("got %s, %+v, %v, want %+v", service, got, err, want)
	}
	if m.Subject != "again.health.pool" || m.Header["ce-type"][0] != events.TypeHealth || m.Header["ce-time"][0] != "1970-01-01T00:00:01Z" {
		t.Errorf("the message goes to %s with %v", m.Subject, m.Header)
	}
	for name, c := range map[string]struct {
		service, source string
		report          events.HealthReport
	}{
		"a service with a dot":  {"a.b", "/a", want},
		"no source":             {"a", "", want},
		"a rate beyond 1":       {"a", "/a", events.HealthReport{SuccessRate: ptr(1.1)}},
		"a figure not a number": {"a", "/a", events.HealthReport{SuccessRate: ptr(math.NaN())}},
		"no figure":             {"a", "/a", events.HealthReport{}},
	} {
		if m, err := wire.EncodeHealth(subjects, c.service, c.report, wire.Envelope{Source: c.source, ID: "1", Time: time.Unix(1, 0)}); err == nil {
			t.Errorf("%s: got the message %+v, want an error", name, m)
		}
	}
}

func FuzzDecodeHealth(f *testing.F) {
	const structured, binary = "application/cloudevents+json", "application/json"
	for _, data := range []string{
		``, `{}`, `{"cpuUtilization":95}`, `{"cpuUtilization":1e400,"queueLength":-0}`, `{"queueLength":1.5}`, `{"cpu":1}`, `{"successRate":null}`,
		`{"specversion":"1.0","id":"1","source":"/a","type":"rebound.health.v1","data":{"systemLoad":1}}`,
		`{"specversion":"1.0","id":"1","source":"/a","type":"rebound.health.v1","data_base64":5}`, "{\"\xff\":1}", `{"cpuUtilization":{"a":[1]}}`,
	} {
		f.Add("retry.health.pool", "", "", []byte(data))
		f.Add("retry.health.pool", structured, "", []byte(data))
		f.Add("retry.health.a.b", binary, "1.0", []byte(data))
	}
	f.Fuzz(func(t *testing.T, subject, contentType, version string, data []byte) {
		h := nats.Header{"content-type": {contentType}, "ce-specversion": {version}, "ce-id": {"1"}, "ce-source": {"/a"}, "ce-type": {events.TypeHealth}}
		service, report, err := wire.DecodeHealth(events.Subjects{}, &nats.Msg{Subject: subject, Header: h, Data: data})
		if err != nil {
			if report != (events.HealthReport{}) {
				t.Fatalf("a refused report says %+v", report)
			}
			return
		}
		if events.CheckName(service) != nil {
			t.Fatalf("service %q was accepted", service)
		}
		// An accepted report can be encoded again and reads the same.
		m, err := wire.EncodeHealth(events.Subjects{}, service, report, wire.Envelope{Source: "/a", ID: "1", Time: time.Unix(1, 0)})
		if err != nil {
			t.Fatalf("%+v was read and cannot be reported: %v", report, err)
		}
		_, again, err := wire.DecodeHealth(events.Subjects{}, m)
		a, _ := json.Marshal(report)
		b, _ := json.Marshal(again)
		if err != nil || string(a) != string(b) {
			t.Fatalf("%s reads as %s, %v", a, b, err)
		}
	})
}
