package breaker

import (
	"context"
	"testing"
	"time"
)

// What an instance changed comes back from the store with its times in
// milliseconds. That is no change.
func TestOwnChangeSeenAgainIsToldOnce(t *testing.T) {
	const key = "billing:charge"
	var told []Change
	g := NewGroup(Config{Instance: "a", Store: NewMemory(), Changed: func(c Change) { told = append(told, c) }})
	b := g.Breaker(key, settings())
	if err := g.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Trip(context.Background(), key, time.Minute+time.Microsecond, ""); err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	c := b.circuit.Clone()
	b.mu.Unlock()
	data, err := Encode(&c)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = Decode(data); err != nil {
		t.Fatal(err)
	}
	c.Version++ // another instance counted a result
	b.see(c).tell()
	if len(told) != 1 {
		t.Errorf("the change is told %d times, want once: %+v", len(told), told)
	}
}
