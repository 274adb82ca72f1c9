package breaker

import (
	"fmt"
	"testing"
	"time"
)

func TestGroup_ForgetsClosedBreakersThatAreNotUsed(t *testing.T) {
	g := NewGroup(Config{})
	now := time.Now()
	for i := range 100 {
		results(t, g.Breaker(fmt.Sprintf("pay:op%d", i), settings()), now, Success, Failure, Success)
	}
	results(t, g.Breaker("pay:open", settings()), now, Failure, Failure, Failure)
	for key, act := range map[string]func() (Circuit, error){
		"pay:held":    func() (Circuit, error) { return g.Hold(t.Context(), "pay:held", Operator{}) },
		"pay:tripped": func() (Circuit, error) { return g.Trip(t.Context(), "pay:tripped", time.Hour, Operator{}) },
		"pay:reset":   func() (Circuit, error) { return g.Reset(t.Context(), "pay:reset", Operator{Note: "it is well again"}) },
	} {
		if _, err := act(); err != nil {
			t.Fatalf("%s: %v", key, err)
		}
	}
	later := now.Add(time.Hour)
	results(t, g.Breaker("pay:op0", settings()), later, Success)
	if n := g.Forget(later); n != 99 {
		t.Errorf("%d breakers were forgotten, want 99", n)
	}
	for _, key := range []string{"pay:op0", "pay:open", "pay:held", "pay:tripped", "pay:reset"} {
		if _, ok := g.Lookup(key); !ok {
			t.Errorf("the breaker of %s was forgotten, want it kept", key)
		}
	}
	if b := g.Breaker("pay:op1", settings()); b.State() != Closed || b.Circuit().TotalRequests != 0 {
		t.Errorf("a breaker that comes back is %+v, want a new one", b.Circuit())
	}
}

func TestGroup_ListsTheWorstAndCountsTheOthers(t *testing.T) {
	g := NewGroup(Config{})
	now := time.Now()
	for i := range 2000 {
		b := g.Breaker(fmt.Sprintf("pay:op%04d", i), settings())
		if i%2 == 0 {
			results(t, b, now, Failure, Failure, Failure)
		}
	}
	if _, err := g.Hold(t.Context(), "pay:held", Operator{}); err != nil {
		t.Fatal(err)
	}
	all := func(*Circuit) bool { return true }
	worst, counts, err := g.Worst(t.Context(), 3, all)
	if err != nil || len(worst) != 3 || worst[0].ServiceKey != "pay:held" || worst[1].ServiceKey != "pay:op0000" || worst[2].ServiceKey != "pay:op0002" {
		t.Errorf("the worst are %+v (%v), want the one that is held and the first that are open", worst, err)
	}
	if want := (Counts{Closed: 1000, Open: 1001, Held: 1}); counts != want {
		t.Errorf("the counts are %+v, want %+v", counts, want)
	}
	next, _, err := g.After(t.Context(), "pay:op1997", 10, all)
	if err != nil || len(next) != 2 || next[0].ServiceKey != "pay:op1998" {
		t.Errorf("after pay:op1997 come %+v (%v), want the last two", next, err)
	}
}
