package breaker

import (
	"context"
	"testing"
	"time"
)

// An instance's own change comes back from the store with its times in milliseconds. That is not
// another change.
func TestBreaker_OwnChangeSeenAgainIsNotifiedOnce(t *testing.T) {
	const key = "billing:charge"
	var changes []Change
	g := NewGroup(Config{Instance: "a", Store: NewMemory(), Changed: func(c Change) { changes = append(changes, c) }})
	b := g.Breaker(key, settings())
	if err := g.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Trip(context.Background(), key, time.Minute+time.Microsecond, Operator{}); err != nil {
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
	b.see(c).deliver()
	if len(changes) != 1 {
		t.Errorf("Changed is called %d times, want once: %+v", len(changes), changes)
	}
}
