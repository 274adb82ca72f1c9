package adoption_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/internal/adoption"
)

const (
	maxDeliver = `{"type":"io.nats.jetstream.advisory.v1.max_deliver","id":"X1","timestamp":"2026-03-01T12:00:00.5Z","stream":"ORDERS","consumer":"worker","stream_seq":17,"deliveries":3}`
	terminated = `{"type":"io.nats.jetstream.advisory.v1.terminated","id":"X2","timestamp":"2026-03-01T12:00:00Z","stream":"ORDERS","consumer":"worker","consumer_seq":20,"stream_seq":17,"deliveries":1,"reason":"no such order"}`
)

func TestParseAdvisory_ReadsBothKinds(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		data, says string
		want       adoption.Advisory
	}{
		{maxDeliver, "consumer worker gave it up after 3 deliveries", adoption.Advisory{ID: "X1", Code: adoption.CodeMaxDeliveries, Stream: "ORDERS", Consumer: "worker", Sequence: 17, Deliveries: 3, Time: at.Add(500 * time.Millisecond)}},
		{terminated, "consumer worker terminated it after 1 delivery: no such order", adoption.Advisory{ID: "X2", Code: adoption.CodeTerminated, Stream: "ORDERS", Consumer: "worker", Sequence: 17, Deliveries: 1, Reason: "no such order", Time: at}},
	} {
		got, err := adoption.ParseAdvisory([]byte(c.data))
		if err != nil || got != c.want || got.Says() != c.says {
			t.Errorf("%s\nis read as %+v (%v), which says %q, want %+v saying %q", c.data, got, err, got.Says(), c.want, c.says)
		}
	}
}

func TestParseAdvisory_RefusesOtherMessages(t *testing.T) {
	for name, c := range map[string]struct{ data, want string }{
		"nothing":             {"", "reading an advisory"},
		"no JSON":             {"hello", "reading an advisory"},
		"another advisory":    {strings.Replace(maxDeliver, "v1.max_deliver", "v1.nak", 1), "tells of no message"},
		"no sequence":         {strings.Replace(maxDeliver, `"stream_seq":17`, `"stream_seq":0`, 1), "is incomplete"},
		"no stream":           {strings.Replace(maxDeliver, `"ORDERS"`, `""`, 1), "is incomplete"},
		"a consumer of dots":  {strings.Replace(maxDeliver, `"worker"`, `"a.b"`, 1), "is incomplete"},
		"no id":               {strings.Replace(maxDeliver, `"X1"`, `""`, 1), "is incomplete"},
		"a negative sequence": {strings.Replace(maxDeliver, `:17`, `:-17`, 1), "reading an advisory"},
	} {
		if a, err := adoption.ParseAdvisory([]byte(c.data)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s gives %+v, %v, want %q", name, a, err, c.want)
		}
	}
}

func FuzzParseAdvisory(f *testing.F) {
	for _, seed := range []string{
		maxDeliver, terminated, "", "{}", "null", `{"type":1}`, `{"stream_seq":1e99}`, maxDeliver + "x", strings.ToUpper(maxDeliver),
		strings.Replace(terminated, "no such order", `\u0000\r\n\ud800`, 1), strings.Replace(maxDeliver, `"deliveries":3`, `"deliveries":4294967295`, 1),
		strings.Replace(maxDeliver, "2026-03-01T12:00:00.5Z", "9999-12-31T23:59:59-23:00", 1), strings.Replace(maxDeliver, `"ORDERS"`, `"\ud800 *"`, 1),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := adoption.ParseAdvisory(data)
		if err != nil {
			if a != (adoption.Advisory{}) || len(err.Error()) > 1000 {
				t.Errorf("%q is refused with %+v and %d bytes of error", data, a, len(err.Error()))
			}
			return
		}
		if a.Stream == "" || a.Consumer == "" || strings.ContainsAny(a.Stream+a.Consumer, " .*>/\\\r\n") || a.Sequence == 0 || a.Deliveries < 1 || a.ID == "" ||
			a.Says() == "" || a.Time.Year() < 0 || a.Time.Year() > 9999 {
			t.Fatalf("%q is read as %+v", data, a)
		}
		// The operation that it becomes can be stored.
		op := &events.Operation{
			ID: events.OperationID("s", a.ID, "a", "b"), Service: "a", Operation: "b", Attempt: a.Deliveries, FirstFailure: a.Time, Submitted: a.Time,
			Origin: &events.Origin{Stream: a.Stream, Consumer: a.Consumer, Sequence: a.Sequence},
		}
		op.Record(events.Attempt{Number: op.Attempt, At: a.Time, Code: a.Code, Error: a.Says()})
		h := nats.Header{}
		if err := wire.PutState(op, h); err != nil {
			t.Fatal(err)
		}
		if _, err := wire.ReadState(h); err != nil {
			t.Fatalf("%q becomes an operation whose state cannot be read: %v", data, err)
		}
	})
}
