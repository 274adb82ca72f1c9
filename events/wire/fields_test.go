package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"pgregory.net/rapid"

	"github.com/rebound-mq/rebound/events"
)

var (
	anyText = rapid.OneOf(
		rapid.Just(""), rapid.StringMatching(`[a-z_]{1,12}`), rapid.String(),
		rapid.StringOf(rapid.SampledFrom([]rune("<>&\"\\%\n\t\x00\x7f\u2028é€😀 "))),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 6), func(b []byte) string { return string(b) }),
	)
	anyFloat = rapid.OneOf(rapid.Just(0.0), rapid.Map(rapid.Int64Range(0, 1e12), func(n int64) float64 { return float64(n) / 1000 }), rapid.Float64Range(-1e30, 1e30))
	anyTime  = rapid.OneOf(rapid.Just(time.Time{}), rapid.Map(rapid.Int64Range(-1e9, 253_402_300_799), func(s int64) time.Time { return time.Unix(s, s%1e9).UTC() }))
	anyName  = rapid.StringMatching(`[A-Za-z0-9_][A-Za-z0-9_-]{0,20}`)
)

// fill draws a value for every field below v, so that a new field is tested as soon as it exists.
func fill(t *rapid.T, v reflect.Value) {
	switch at := v.Addr().Interface().(type) {
	case *time.Time:
		*at = anyTime.Draw(t, "time")
		return
	case *events.Priority:
		*at = rapid.SampledFrom(events.Priorities[:]).Draw(t, "priority")
		return
	case **events.Work:
		return // not part of the state
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(anyText.Draw(t, "text"))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Int:
		v.SetInt(rapid.OneOf(rapid.Int64Range(0, 2), rapid.Int64()).Draw(t, "int"))
	case reflect.Uint64:
		v.SetUint(rapid.OneOf(rapid.Uint64Range(0, 2), rapid.Uint64()).Draw(t, "uint"))
	case reflect.Float64:
		v.SetFloat(anyFloat.Draw(t, "float"))
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	case reflect.Pointer:
		if rapid.Bool().Draw(t, "present") {
			v.Set(reflect.New(v.Type().Elem()))
			fill(t, v.Elem())
		}
	case reflect.Slice:
		n := rapid.IntRange(0, 3).Draw(t, "length")
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(t, v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range rapid.IntRange(0, 3).Draw(t, "size") {
			value := reflect.New(v.Type().Elem()).Elem()
			fill(t, value)
			v.SetMapIndex(reflect.ValueOf(anyText.Draw(t, "key")), value)
		}
	default:
		t.Fatalf("no value is drawn for a %s", v.Type())
	}
}

// drawn returns a T with any values.
func drawn[T any](t *rapid.T) *T {
	v := new(T)
	fill(t, reflect.ValueOf(v).Elem())
	return v
}

// encodeWithSDK makes the message of an event with encoding/json and the CloudEvents SDK.
func encodeWithSDK(subject string, e Event) (*nats.Msg, error) {
	body, err := json.Marshal(e.Data)
	if err != nil {
		return nil, err
	}
	c := event.New()
	c.SetID(e.ID)
	c.SetSource(eventSource)
	c.SetType(events.EventType(e.Name))
	c.SetSubject(events.Key(e.About.Service, e.About.Operation))
	c.SetTime(e.Time.UTC())
	c.SetExtension("service", e.About.Service)
	c.SetExtension("operation", e.About.Operation)
	if e.About.ID != "" {
		c.SetExtension("operationid", e.About.ID)
	}
	if err := c.SetData(event.ApplicationJSON, json.RawMessage(body)); err != nil {
		return nil, err
	}
	m, err := EncodeCloudEvent(subject, &c)
	if err != nil {
		return nil, err
	}
	if e.About.ID != "" {
		m.Header[events.HeaderID] = []string{e.About.ID}
	}
	m.Header[jetstream.MsgIDHeader] = []string{e.ID}
	return m, nil
}

// encodedAsBySDK checks that an event becomes the message that the SDK makes of it.
func encodedAsBySDK(t rapid.TB, e Event) {
	t.Helper()
	got, err := EncodeEvent("x", e)
	if err != nil {
		t.Fatal(err)
	}
	want, err := encodeWithSDK("x", e)
	if err != nil {
		t.Fatal(err)
	}
	if string(got.Data) != string(want.Data) {
		t.Fatalf("the data is\n%s, want\n%s", got.Data, want.Data)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("the message is\n%v, want\n%v", got, want)
	}
}

func TestEncodeEvent_IsTheMessageThatTheSDKMakes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		about := *drawn[events.About](t)
		about.Service, about.Operation, about.ID = anyName.Draw(t, "service"), anyName.Draw(t, "operation"), rapid.SampledFrom([]string{"", seedID}).Draw(t, "id")
		e := Event{ID: rapid.StringMatching(`[!-~é]{1,40}`).Draw(t, "event id"), About: about, Time: anyTime.Draw(t, "time")}
		scheduled, outcome := drawn[events.Scheduled](t), drawn[events.Outcome](t)
		scheduled.About, outcome.About = about, about
		for name, data := range map[string]any{
			events.RetryScheduled: scheduled, events.RetrySuccess: outcome, events.RetryFailed: *outcome, events.BreakerChanged: drawn[events.BreakerChange](t),
		} {
			e.Name, e.Data = name, data
			encodedAsBySDK(t, e)
		}
	})
}

func FuzzEncodeEvent(f *testing.F) {
	f.Add("1", "/retry/submit/a/b", "503", "the pool is <empty> & \"closed\"\u2028", 1.5, int64(1_772_366_400))
	f.Add("\xff", "\x00%", "é", "\\u0000", 1e-7, int64(-62_135_596_800))
	f.Add("", "", "", "", math.Copysign(0, -1), int64(0))
	f.Fuzz(func(t *testing.T, id, source, code, text string, ms float64, seconds int64) {
		at := events.InUTC(time.Unix(seconds, 0))
		about := events.About{ID: seedID, EventID: id, Source: source, Service: "a", Operation: "b", Priority: "normal", Account: code, Campaign: text}
		data := &events.Scheduled{About: about, Error: events.Failure{Code: code, Message: text}, DelayMs: ms, Due: at, Factors: map[string]float64{text: ms, code: 1}}
		e := Event{Name: events.RetryScheduled, ID: seedID + ".1." + events.RetryScheduled, About: about, Time: at, Data: data}
		if _, err := json.Marshal(data); err != nil {
			if m, err := EncodeEvent("x", e); err == nil {
				t.Fatalf("JSON cannot hold %+v, which becomes %s", data, m.Data)
			}
			return
		}
		encodedAsBySDK(t, e)
		e.Name, e.Data = events.RetryFailed, &events.Outcome{About: about, Outcome: events.RetryFailed, ElapsedMs: ms, EndedAt: at, Detail: text, Error: &events.Failure{Code: code, Message: text}}
		encodedAsBySDK(t, e)
	})
}

func TestEncodeEvent_ReportsWhatJSONCannotHold(t *testing.T) {
	late := time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, data := range map[string]any{"a decision": &events.Scheduled{Due: late}, "an outcome": &events.Outcome{EndedAt: late}, "other data": events.PauseChange{At: late}} {
		if m, err := EncodeEvent("x", Event{Name: "n", ID: "1", Data: data}); err == nil || !strings.Contains(err.Error(), "encoding event n") {
			t.Errorf("%s gives %v, %v; want an error that names the event", name, m, err)
		}
	}
}

// stateOf returns a state as encoding/json writes it.
func stateOf(t rapid.TB, o *events.Operation) string {
	t.Helper()
	var state bytes.Buffer
	enc := json.NewEncoder(&state)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(o); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(state.String(), "\n")
}

func TestPutState_WritesWhatEncodingJSONWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o, h := drawn[events.Operation](t), nats.Header{}
		o.Work = drawn[events.Work](t)
		if err := PutState(o, h); err != nil {
			t.Fatal(err)
		}
		if want := stateOf(t, o); h.Get(events.HeaderState) != want {
			t.Fatalf("the state is\n%s, want\n%s", h.Get(events.HeaderState), want)
		}
		if want, err := json.Marshal(o.Work); err != nil || h.Get(events.HeaderWork) != string(want) {
			t.Fatalf("the work is\n%s, want\n%s, %v", h.Get(events.HeaderWork), want, err)
		}
	})
}

// What an older or a newer instance wrote is read as well, by encoding/json.
func TestReadState_ReadsWhatEncodingJSONReads(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := drawn[events.Operation](t)
		o.ID, o.Service, o.Operation, o.Attempt, o.Replay, o.Omitted = seedID, anyName.Draw(t, "service"), anyName.Draw(t, "operation"), 1, 0, 0
		o.Work = drawn[events.Work](t)
		o.Work.Token, o.Work.Attempt = "t", 2
		state := stateOf(t, o)
		work, err := json.Marshal(o.Work)
		if err != nil {
			t.Fatal(err)
		}
		later := func(text string) string { return strings.TrimSuffix(text, "}") + `, "later": {"version": 2} }` }
		for _, h := range []nats.Header{
			{events.HeaderState: {state}, events.HeaderWork: {string(work)}},
			{events.HeaderState: {later(state)}, events.HeaderWork: {later(string(work))}},
		} {
			want := new(events.Operation)
			if err := json.Unmarshal([]byte(h.Get(events.HeaderState)), want); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(h.Get(events.HeaderWork)), &want.Work); err != nil {
				t.Fatal(err)
			}
			got, err := ReadState(h)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("%v is read as\n%+v, want\n%+v", h, got, want)
			}
		}
	})
}

func FuzzDecodeState(f *testing.F) {
	for _, state := range states {
		f.Add(state)
	}
	f.Add(`{"id":"a","eventId":"","source":"","service":"s","operation":"o","priority":"low","attempt":1,"firstFailure":"2026-03-01T12:00:00Z","submitted":"2026-03-01T12:00:00.5Z","history":[{"attempt":1,"at":"2026-03-01T12:00:00Z","durationMs":0.5},{"attempt":2,"at":"0001-01-01T00:00:00Z","durationMs":7}]}`)
	f.Fuzz(func(t *testing.T, state string) {
		got, err := decodeState(state)
		want := new(events.Operation)
		if wrong := json.Unmarshal([]byte(state), want); (err != nil) != (wrong != nil) {
			t.Fatalf("the error is %v, encoding/json's %v", err, wrong)
		}
		if err == nil && !reflect.DeepEqual(got, want) {
			t.Fatalf("%q is read as\n%+v, by encoding/json as\n%+v", state, got, want)
		}
	})
}

// addAttributesWithSDK does with the CloudEvents SDK what AddAttributes does.
func addAttributesWithSDK(t rapid.TB, o *events.Operation, h nats.Header) {
	t.Helper()
	e := event.New()
	e.SetID(o.EventID)
	e.SetSource(o.Source)
	e.SetType(o.Type)
	e.SetExtension("service", o.Service)
	e.SetExtension("operation", o.Operation)
	w := nats.NewMsg("")
	if err := binding.ToMessage(&e).ReadBinary(context.Background(), &writer{w}); err != nil {
		t.Fatal(err)
	}
	for k, v := range w.Header {
		if HeaderValue(h, k) == "" {
			h[k] = v
		}
	}
}

func TestAddAttributes_AddsWhatTheSDKWrites(t *testing.T) {
	sources := rapid.OneOf(rapid.StringMatching(`/[a-zA-Z0-9_./-]{0,20}`), rapid.StringMatching(`[!-~ ]{0,12}`), anyText)
	rapid.Check(t, func(t *rapid.T) {
		o := &events.Operation{
			EventID: anyText.Draw(t, "id"), Source: sources.Draw(t, "source"), Type: anyText.Draw(t, "type"),
			Service: anyName.Draw(t, "service"), Operation: anyName.Draw(t, "operation"),
		}
		got, want := nats.Header{}, nats.Header{}
		for _, name := range rapid.SliceOfN(rapid.SampledFrom([]string{"ce-id", "CE-Source", "Ce-Service", "X"}), 0, 3).Draw(t, "given") {
			value := rapid.SampledFrom([]string{"", "given"}).Draw(t, "value")
			got[name], want[name] = []string{value}, []string{value}
		}
		AddAttributes(o, got)
		addAttributesWithSDK(t, o, want)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got\n%v, want\n%v", got, want)
		}
	})
}

func TestTargetHeader_ValuesDoNotShareRoom(t *testing.T) {
	o := &events.Operation{ID: seedID, EventID: "1", Source: "/s", Type: events.TypeFailed, Service: "a", Operation: "b", FirstFailure: received}
	h := TargetHeader(o, nil, 2, true)
	before := h.Get(events.HeaderAttempt)
	h.Add(events.HeaderID, "another")
	h.Add("ce-operation", "another")
	if got := h.Get(events.HeaderAttempt); got != before || len(h[events.HeaderAttempt]) != 1 {
		t.Errorf("after a value was added to another header the attempt is %v, want %s", h[events.HeaderAttempt], before)
	}
}
