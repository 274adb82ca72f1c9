package breaker

import (
	"bytes"
	"testing"
	"time"
)

// records are circuits as the stores keep them.
var records = []string{
	`{"key":"pay:charge","v":9,"state":"HALF_OPEN","fails":5,"last":1772366400000,"next":1772366430000,"tries":2,"oks":1,"n":100,"nf":7,"ms":12.5,"gen":3,"cause":"timeout","at":1772366400000,"by":"i1","probes":[{"id":"p","exp":1772366460000}],"win":[{"t":1772366400000,"s":3,"f":1}]}`,
	`{"key":"a:b","state":"OPEN","held":true,"note":"moved","next":-1}`, `{}`, `null`, `[]`, `{"state":"AJAR"}`, `{"state":"CLOSED","gen":18446744073709551615,"fails":-9}`,
	`{"state":"OPEN","next":9223372036854775807,"last":-9223372036854775808}`, `{"key":"a:b","state":"OPEN"} {}`, `{"ms":1e400}`, `{"key":"\ud800"}`,
}

// FuzzDecode reads any text as a stored circuit. The state machine can continue from every
// accepted circuit, which reads the same after it is encoded again.
func FuzzDecode(f *testing.F) {
	for _, seed := range records {
		f.Add([]byte(seed))
	}
	now, s := time.UnixMilli(1772366420000), Settings{FailureRate: 0.5}.OrDefaults()
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Decode(data)
		if err != nil {
			return
		}
		written, err := Encode(&c)
		if err != nil {
			t.Fatalf("%q was read and cannot be written: %v", data, err)
		}
		again, err := Decode(written)
		if err != nil {
			t.Fatalf("%s cannot be read: %v", written, err)
		}
		if twice, err := Encode(&again); err != nil || !bytes.Equal(written, twice) {
			t.Fatalf("%s is written again as %s, %v", written, twice, err)
		}
		if n, _ := c.Ready(now, &s); n < 0 {
			t.Fatalf("%s lets %d attempts through", written, n)
		}
		for _, e := range []Event{
			{Kind: Acquire, Probe: "q", By: "i2"}, {Kind: Return, Probe: "p", Result: Failure, By: "i2", Generation: c.Generation}, {Kind: Reset, By: "i2"},
		} {
			if r := Apply(c, e, now, s); int(r.Circuit.State) >= len(stateNames) {
				t.Fatalf("%s of %s leads to %+v", e.Kind, written, r.Circuit)
			}
		}
	})
}
