package adoption_test

import (
	"strings"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/internal/adoption"
)

const (
	maxDeliver = `{"type":"io.nats.jetstream.advisory.v1.max_deliver","id":"X1","timestamp":"2026-03-01T12:00:00.5Z","stream":"ORDERS","consumer":"worker","stream_seq":17,"deliveries":3}`
	terminated = `{"type":"io.nats.jetstream.advisory.v1.terminated","id":"X2","timestamp":"2026-03-01T12:00:00Z","stream":"ORDERS","consumer":"worker","consumer_seq":20,"stream_seq":17,"deliveries":1,"reason":"no such order"}`
)

func TestAdvisoriesAreRead(t *testing.T) {
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

func TestWhatIsNoAdvisoryOfAMessageGivenUpIsRefused(t *testing.T) {
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
	for _, seed := range []string{maxDeliver, terminated, "", "{}", `{"type":1}`, `{"stream_seq":1e99}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := adoption.ParseAdvisory(data)
		if err == nil && (a.Stream == "" || a.Consumer == "" || a.Sequence == 0 || a.Deliveries < 1 || a.Says() == "") {
			t.Errorf("%q is read as %+v", data, a)
		}
	})
}
