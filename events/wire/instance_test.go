package wire_test

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
)

// instance is a report with a value in every field.
func instance() events.InstanceReport {
	since := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return events.InstanceReport{
		ID: "a1", State: events.InstanceServing, HostName: "worker-3.example", Version: "1.2.0", Started: since.Add(-time.Hour),
		InFlight: 12, InHand: 40, Succeeded: 90, Failed: 10, CPUUtilization: 35.5, MemoryUtilization: 60, SystemLoad: 0.7, StoreDelayMs: 1.5,
		Backpressure: events.Backpressure{On: true, Cause: "failure_rate", Since: since},
		Policies:     "0123456789abcdef",
		Delivered: []events.Delivered{
			{Consumer: "rebound-due-critical", Made: since.Add(time.Nanosecond), Sequence: 1},
			{Consumer: "rebound-due-low", Made: since, Sequence: math.MaxUint64},
		},
		Capacity: events.Capacity{Overload: 1.25, InHandLimit: 512, LimitedBy: "memory"},
		Services: []events.ServiceAttempts{{Service: 7, Succeeded: 1}, {Service: 1<<48 - 1, Succeeded: 3, Failed: 1e9}},
		Evidence: []events.ServiceEvidence{
			{Service: "billing", Results: 5, Count: 4, Ages: []int64{0, 20, 20, 90_000}, Mean: 1500 * time.Microsecond, P95: 2 * time.Second, Trend: -0.25, Variation: 1.125},
			{Service: "ledger", Absent: true},
		},
	}
}

func TestDecodeInstance_ReadsWhatWasWritten(t *testing.T) {
	for name, prefix := range map[string]string{"with the default prefix": "", "with another prefix": "again"} {
		t.Run(name, func(t *testing.T) {
			want := instance()
			subjects := events.Subjects{Prefix: prefix}
			m, err := wire.EncodeInstance(subjects, &want)
			if err != nil {
				t.Fatal(err)
			}
			got, err := wire.DecodeInstance(subjects, m)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, %v, want %+v", got, err, want)
			}
		})
	}
}

func TestDecodeInstance_BadReportIsRefusedWithWhatIsWrong(t *testing.T) {
	with := func(change func(*events.InstanceReport)) string {
		r := instance()
		change(&r)
		data, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	ok := with(func(*events.InstanceReport) {})
	for _, c := range []struct{ name, subject, data, want string }{
		{"another subject", "retry.health.a1", ok, `subject "retry.health.a1" is not under retry.instance`},
		{"no id", "retry.instance.", ok, "id in subject is empty"},
		{"an id that is no name", "retry.instance.a/1", ok, `has the character '/'`},
		{"another instance's id", "retry.instance.b", ok, `id "a1" differs from "b"`},
		{"too much", "retry.instance.a1", ok + strings.Repeat(" ", 4096), "more than the 4096 allowed"},
		{"nothing", "retry.instance.a1", "", "reading the report"},
		{"no JSON", "retry.instance.a1", "a1", "reading the report"},
		{"null", "retry.instance.a1", "null", "it is null"},
		{"two objects", "retry.instance.a1", ok + ok, "something follows the JSON value"},
		{"an unknown field", "retry.instance.a1", `{"idd":"a1"}`, `unknown field "idd"`},
		{"a field twice", "retry.instance.a1", `{"id":"a1","id":"a2"}`, `"id" stands twice`},
		{"a number as text", "retry.instance.a1", `{"inFlight":"3"}`, "reading the report"},
		{"a number too large for a float", "retry.instance.a1", `{"systemLoad":1e999}`, "reading the report"},
		{"an unknown state", "retry.instance.a1", with(func(r *events.InstanceReport) { r.State = "dead" }), `state "dead" is none of`},
		{"a host name with a line break", "retry.instance.a1", with(func(r *events.InstanceReport) { r.HostName = "a\nb" }), "hostName is no line"},
		{"a host name that is too long", "retry.instance.a1", with(func(r *events.InstanceReport) { r.HostName = strings.Repeat("h", 256) }), "hostName is no line of at most 255 bytes"},
		{"a version with an escape sequence", "retry.instance.a1", with(func(r *events.InstanceReport) { r.Version = "\x1b[2J" }), "version is no line"},
		{"no start", "retry.instance.a1", with(func(r *events.InstanceReport) { r.Started = time.Time{} }), "started is missing"},
		{"less than nothing in flight", "retry.instance.a1", with(func(r *events.InstanceReport) { r.InFlight = -1 }), "inFlight is -1, not between 0 and 1000000000"},
		{"too many failures", "retry.instance.a1", with(func(r *events.InstanceReport) { r.Failed = 1e9 + 1 }), "failed is 1.000000001e+09"},
		{"more than all of the CPU", "retry.instance.a1", with(func(r *events.InstanceReport) { r.CPUUtilization = 101 }), "cpuUtilization is 101, not between 0 and 100"},
		{"a load below zero", "retry.instance.a1", with(func(r *events.InstanceReport) { r.SystemLoad = -0.1 }), "systemLoad is -0.1"},
		{"backpressure without a cause", "retry.instance.a1", with(func(r *events.InstanceReport) { r.Backpressure.Cause = "" }), `with the cause ""`},
		{"backpressure since no time", "retry.instance.a1", with(func(r *events.InstanceReport) { r.Backpressure.Since = time.Time{} }), "since no time"},
		{"a cause of no backpressure", "retry.instance.a1", with(func(r *events.InstanceReport) { r.Backpressure.On = false }), `off and has the cause "failure_rate"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := wire.DecodeInstance(events.Subjects{}, &nats.Msg{Subject: c.subject, Data: []byte(c.data)})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %+v, %v, want an error that says %q", got, err, c.want)
			}
		})
	}
}

// services returns a header of so many services.
func services(n int) string {
	var all []string
	for i := range n {
		all = append(all, strconv.FormatUint(1<<47+uint64(i), 36)+":1000:1000")
	}
	return strings.Join(all, " ")
}

func TestEncodeInstance_ReportOfManyServicesIsSmall(t *testing.T) {
	r := instance()
	r.Services = nil
	for i := range events.MaxServices {
		r.Services = append(r.Services, events.ServiceAttempts{Service: events.ServiceHash(1<<48 - events.MaxServices + i), Succeeded: 9999, Failed: 9999})
	}
	m, err := wire.EncodeInstance(events.Subjects{}, &r)
	if err != nil {
		t.Fatal(err)
	}
	if n := m.Size(); n > 4096 {
		t.Errorf("a report of %d services has %d bytes, want at most 4096", events.MaxServices, n)
	}
	if got, err := wire.DecodeInstance(events.Subjects{}, m); err != nil || !slices.Equal(got.Services, r.Services) {
		t.Errorf("it is read as %v, %v, want %v", got.Services, err, r.Services)
	}
}

func TestEncodeInstance_EvidenceOnManyServicesIsSmall(t *testing.T) {
	r := instance()
	r.Evidence = nil
	for i := range events.MaxEvidence {
		r.Evidence = append(r.Evidence, events.ServiceEvidence{
			Service: fmt.Sprintf("a_service_of_some_length_%d", i), Results: math.MaxUint64, Count: events.MaxResults,
			Ages: []int64{500, 1000, 2000, 4000, 8000, 16_000, 32_000, 63_000}, Mean: time.Second, P95: time.Second, Trend: 1, Variation: 1,
		})
	}
	m, err := wire.EncodeInstance(events.Subjects{}, &r)
	if err != nil {
		t.Fatal(err)
	}
	if n := m.Size(); n > 8192 {
		t.Errorf("a report with evidence on %d services has %d bytes, want at most 8192", events.MaxEvidence, n)
	}
}

func TestDecodeInstance_ReportsOfOlderAndNewerInstancesAreUnderstood(t *testing.T) {
	r := instance()
	m, err := wire.EncodeInstance(events.Subjects{}, &r)
	if err != nil {
		t.Fatal(err)
	}
	// Older instances refuse an unknown field, and ignore an unknown header.
	if text := string(m.Data); strings.Contains(text, "ervices") || strings.Contains(text, "vidence") || strings.Contains(text, "apacity") || strings.Contains(text, "overload") {
		t.Errorf("the body of a report is %s, want nothing of services and capacity in it", text)
	}
	m.Header.Del("Retry-Services")
	m.Header.Del("Retry-Capacity")
	m.Header.Del("Retry-Evidence")
	if got, err := wire.DecodeInstance(events.Subjects{}, m); err != nil || got.Services != nil || got.Evidence != nil || got.Capacity != (events.Capacity{}) {
		t.Errorf("without the headers services and capacity are %v and %v, %v, want none", got.Services, got.Capacity, err)
	}
}

func TestDecodeInstance_BadHeaderIsRefused(t *testing.T) {
	for _, c := range []struct {
		name, header string
		values       []string
		want         string
	}{
		{"policies with a line break", "Retry-Policies", []string{"a\nb"}, "Retry-Policies is no line"},
		{"deliveries of too many consumers", "Retry-Delivered", slices.Repeat([]string{"c 1 1"}, 9), "stands 9 times, more than the 8 allowed"},
		{"a delivery without a sequence", "Retry-Delivered", []string{"c 1"}, `"c 1" is no consumer, time and sequence`},
		{"a delivery of a consumer that has no name", "Retry-Delivered", []string{"a.b 1 1"}, `"a.b 1 1" is no consumer, time and sequence`},
		{"a delivery at a time that is no number", "Retry-Delivered", []string{"c now 1"}, `the time "now" is no number`},
		{"a delivery of the sequence 0", "Retry-Delivered", []string{"c 1 1", "c 1 0"}, `"0" is no sequence`},
		{"a capacity without a limit", "Retry-Capacity", []string{"1"}, `"1" is no overload, limit and cause`},
		{"a capacity with two causes", "Retry-Capacity", []string{"1 2 a b"}, `"1 2 a b" is no overload, limit and cause`},
		{"a capacity with an empty cause", "Retry-Capacity", []string{"1 2 "}, `"1 2 " is no overload, limit and cause`},
		{"an overload that is no number", "Retry-Capacity", []string{"x 2"}, `the overload "x" is no number`},
		{"an overload that is not a number", "Retry-Capacity", []string{"NaN 2"}, "overload is NaN"},
		{"an overload below 0", "Retry-Capacity", []string{"-1 2"}, "overload is -1"},
		{"a limit that is no number", "Retry-Capacity", []string{"1 2.5"}, `the limit "2.5" is no whole number`},
		{"a limit below 0", "Retry-Capacity", []string{"1 -2"}, "inHandLimit is -2"},
		{"a cause that is no name", "Retry-Capacity", []string{"1 2 a/b"}, `limitedBy "a/b" is no name`},
		{"more services than there may be", "Retry-Services", []string{services(events.MaxServices + 1)}, "has 129 services, more than the 128 allowed"},
		{"a service without counts", "Retry-Services", []string{"z"}, `"z" is no service, successes and failures`},
		{"a service that is no number", "Retry-Services", []string{"-:1:2"}, `the service "-" is no number above the one before`},
		{"a service twice", "Retry-Services", []string{"z:1:2 z:1:2"}, `the service "z" is no number above the one before`},
		{"services in another order", "Retry-Services", []string{"10:1:2 z:1:2"}, `the service "z" is no number above the one before`},
		{"attempts that are no number", "Retry-Services", []string{"z:1:-2"}, `"-2" is no number of attempts`},
		{"more attempts than there may be", "Retry-Services", []string{"z:1000000001:2"}, `"1000000001" is no number of attempts`},
		{"a delivery of a negative sequence", "Retry-Delivered", []string{"c 1 -1"}, `"-1" is no sequence`},
		{"evidence on too many services", "Retry-Evidence", []string{strings.Repeat("a:0:0:0:0:0:0:0: ", 64) + "a:0:0:0:0:0:0:0:"}, "has 65 services, more than the 64 allowed"},
		{"evidence with too few fields", "Retry-Evidence", []string{"a:0:0"}, "has 3 fields, not 9"},
		{"evidence on a service that has no name", "Retry-Evidence", []string{"a.b:0:0:0:0:0:0:0:"}, "names no service"},
		{"evidence of more attempts than there may be", "Retry-Evidence", []string{"a:1t:0:0:0:0:0:0:"}, `"1t" is not between 0 and 64`},
		{"evidence of a negative duration", "Retry-Evidence", []string{"a:0:0:-1:0:0:0:0:"}, `"-1" is not between 0`},
		{"evidence of results that are no number", "Retry-Evidence", []string{"a:1:0:0:0:0:0:-1:0"}, `the results "-1" are no number`},
		{"evidence with too few ages", "Retry-Evidence", []string{"a:4:0:0:0:0:0:0:0,1"}, "2 ages of 4 attempts, not 4"},
		{"evidence with ages in another order", "Retry-Evidence", []string{"a:2:0:0:0:0:0:0:2,1"}, `"1" is no age above the one before`},
	} {
		t.Run(c.name, func(t *testing.T) {
			report := instance()
			m, err := wire.EncodeInstance(events.Subjects{}, &report)
			if err != nil {
				t.Fatal(err)
			}
			m.Header[c.header] = c.values
			if _, err := wire.DecodeInstance(events.Subjects{}, m); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error is %v, want one that says %q", err, c.want)
			}
		})
	}
}

func TestEncodeInstance_BadReportIsNotSent(t *testing.T) {
	r := instance()
	r.ID, r.StoreDelayMs = "a.b", -1
	if m, err := wire.EncodeInstance(events.Subjects{}, &r); err == nil {
		t.Errorf("the message is %s, want an error", m.Data)
	}
}

func TestEncodeBackpressure_IsAboutNoKey(t *testing.T) {
	change := events.BackpressureChange{Backpressure: instance().Backpressure, By: "a1", Instances: 2, FailureRate: 0.5, Samples: 100}
	m, err := wire.EncodeBackpressure(events.Subjects{}, &change)
	if err != nil {
		t.Fatal(err)
	}
	if m.Subject != "retry.event.backpressureChanged.rebound.all" || m.Header.Get("ce-type") != "rebound.backpressureChanged.v1" ||
		m.Header.Get("ce-subject") != "rebound:all" || m.Header.Get("Nats-Msg-Id") == "" {
		t.Errorf("the event is on %s with %v", m.Subject, m.Header)
	}
	off := change
	off.Backpressure = events.Backpressure{Since: change.Since.Add(5 * time.Second)}
	other, err := wire.EncodeBackpressure(events.Subjects{}, &off)
	if err != nil || other.Header.Get("Nats-Msg-Id") == m.Header.Get("Nats-Msg-Id") {
		t.Errorf("turning off has the message id %s of turning on, %v", other.Header.Get("Nats-Msg-Id"), err)
	}
}

func FuzzDecodeInstance(f *testing.F) {
	whole, err := json.Marshal(instance())
	if err != nil {
		f.Fatal(err)
	}
	f.Add("retry.instance.a1", whole)
	f.Add("retry.instance.a1", []byte(`{"id":"a1","state":"leaving","version":"","started":"2026-03-01T12:00:00Z"}`))
	f.Add("retry.instance.", []byte(`null`))
	f.Fuzz(func(t *testing.T, subject string, data []byte) {
		r, err := wire.DecodeInstance(events.Subjects{}, &nats.Msg{Subject: subject, Data: data})
		if err != nil {
			return
		}
		m, err := wire.EncodeInstance(events.Subjects{}, &r)
		if err != nil {
			t.Fatalf("%+v was accepted and cannot be encoded: %v", r, err)
		}
		again, err := wire.DecodeInstance(events.Subjects{}, m)
		if err != nil || !again.Started.Equal(r.Started) || again.ID != r.ID || again.Failed != r.Failed {
			t.Errorf("%+v becomes %+v, %v", r, again, err)
		}
	})
}
