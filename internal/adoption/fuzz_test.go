package adoption

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/events"
)

// FuzzRead reads any text as a stored adoption. One that passes its check has subjects
// and a key of the bucket that the server accepts.
func FuzzRead(f *testing.F) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	whole, err := json.Marshal(Adoption{
		Stream: "ORDERS", Consumer: "wörker=1", Service: "orders", Operation: "process", Target: "orders.process", AdoptedAt: at, StreamCreated: at, ConsumerCreated: at,
	})
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		string(whole), "", "{}", "null", `{"stream":"a.b","consumer":"*"}`, `{"stream":"a","consumer":"b","service":"s","operation":"o","target":"$JS.API.>"}`,
		`{"stream":"\ud800","consumer":"b","service":"s","operation":"o"}`, string(whole) + "{}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		a, err := read(value)
		if err != nil {
			if a != (Adoption{}) {
				t.Fatalf("%q is refused with %+v", value, a)
			}
			return
		}
		written, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		again, err := read(written)
		if twice, _ := json.Marshal(again); err != nil || string(twice) != string(written) {
			t.Fatalf("%s is read again as %s, %v", written, twice, err)
		}
		if a.Check(events.Subjects{}) != nil {
			return
		}
		for _, subject := range a.advisories() {
			if !plain(subject) {
				t.Fatalf("%s leads to the subject %q", written, subject)
			}
		}
		if k := key(a.Stream, a.Consumer); !plain(k) || len(a.Source()) > events.MaxAttribute {
			t.Fatalf("%s stands under the key %q and is the source %q", written, k, a.Source())
		}
	})
}

// plain reports whether the server accepts a subject to publish on.
func plain(subject string) bool {
	token := 0
	for _, c := range subject {
		switch {
		case c <= ' ', c == 0x7f, c == '*', c == '>':
			return false
		case c == '.':
			if token == 0 {
				return false
			}
			token = -1
		}
		token++
	}
	return token > 0
}
