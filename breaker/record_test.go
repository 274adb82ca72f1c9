package breaker

import (
	"strings"
	"testing"
)

func TestDecode_CircuitOfAnOlderInstanceIsForcedByItsCause(t *testing.T) {
	c := NewCircuit("pay:charge")
	c, _ = Step(c, Event{Kind: Hold, By: "i", Operator: "ann", Note: "why"}, start, settings())
	data, err := Encode(&c)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(data)
	if got.Operated.At = got.Operated.At.UTC(); err != nil || got.Operated != c.Operated || !got.Forced() {
		t.Errorf("what was encoded reads as %+v with error %v, want %+v", got.Operated, err, c.Operated)
	}
	// An older instance writes what it knows: without the operator's act.
	from, to := strings.Index(string(data), `,"op":{`), strings.LastIndex(string(data), "}}")
	older := string(data[:from]) + string(data[to+1:])
	got, err = Decode([]byte(older))
	if err != nil || got.Operated != (Operated{}) || !got.Forced() {
		t.Errorf("%s reads as %+v, forced %v, with error %v; want forced without an act", older, got.Operated, got.Forced(), err)
	}
}
