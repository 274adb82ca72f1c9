package breaker

import (
	"slices"
	"testing"
	"time"
)

func TestStep_RejoinLetsTheWorseStateWin(t *testing.T) {
	closed := func(gen uint64, fails int) Circuit {
		return Circuit{Summary: Summary{ServiceKey: "k", State: Closed, FailureCount: fails}, Generation: gen, Version: 5}
	}
	open := func(gen uint64, next time.Duration) Circuit {
		return Circuit{Summary: Summary{ServiceKey: "k", State: Open, NextAttemptTime: start.Add(next)}, Generation: gen, Version: 5}
	}
	half := func(gen uint64, probes ...string) Circuit {
		c := Circuit{Summary: Summary{ServiceKey: "k", State: HalfOpen}, Generation: gen, Version: 5}
		for _, id := range probes {
			c.Probes = append(c.Probes, Probe{ID: id, Expires: start.Add(time.Minute)})
		}
		return c
	}
	held := func(gen uint64) Circuit {
		return Circuit{Summary: Summary{ServiceKey: "k", State: Open, Held: true}, Generation: gen, Version: 5}
	}
	byAnn := func(c Circuit) Circuit {
		c.Operated = Operated{Action: CauseHeld, By: "ann", At: start}
		return c
	}
	tests := []struct {
		name         string
		stored, mine Circuit
		returned     []string
		state        State
		generation   uint64
		changed      bool
		check        func(c Circuit) string
	}{
		{name: "open wins over closed", stored: closed(3, 0), mine: open(4, time.Minute), state: Open, generation: 4, changed: true},
		{name: "open wins over closed and voids the store's permits", stored: closed(7, 0), mine: open(4, time.Minute), state: Open, generation: 8, changed: true},
		{name: "a store that is open stays open and voids the instance's permits", stored: open(4, time.Minute), mine: closed(7, 0), state: Open, generation: 8},
		{name: "half open wins over closed", stored: closed(3, 0), mine: half(5), state: HalfOpen, generation: 5, changed: true},
		{name: "open wins over half open", stored: half(4), mine: open(5, time.Minute), state: Open, generation: 5, changed: true},
		{name: "held wins over open", stored: open(4, time.Hour), mine: held(5), state: Open, generation: 5, changed: true, check: func(c Circuit) string {
			return want("held", c.Held, true) + want("next attempt", c.NextAttemptTime, time.Time{})
		}},
		{name: "who held it is taken over with the hold", stored: open(4, time.Hour), mine: byAnn(held(5)), state: Open, generation: 5, changed: true, check: func(c Circuit) string {
			return want("by", c.Operated.By, "ann")
		}},
		{name: "of two open ones the later act of an operator counts", stored: open(4, time.Minute), mine: byAnn(open(4, time.Minute)), state: Open, generation: 4, check: func(c Circuit) string {
			return want("by", c.Operated.By, "ann")
		}},
		{name: "of two open ones the longer wait wins", stored: open(4, time.Minute), mine: open(4, time.Hour), state: Open, generation: 4, check: func(c Circuit) string {
			return want("next attempt", c.NextAttemptTime, start.Add(time.Hour))
		}},
		{name: "of two closed ones the longer run of failures wins", stored: closed(3, 1), mine: closed(3, 2), state: Closed, generation: 3, check: func(c Circuit) string {
			return want("failure count", c.FailureCount, 2)
		}},
		{name: "probes in flight add up", stored: half(4, "a", "b"), mine: half(4, "b", "c"), state: HalfOpen, generation: 4, check: func(c Circuit) string {
			return want("probes", len(c.Probes), 3)
		}},
		{
			name: "a probe of the store's that came back meanwhile is gone", stored: half(4, "a", "b"), mine: half(4, "b"), returned: []string{"a"},
			state: HalfOpen, generation: 4, check: func(c Circuit) string { return want("probes", len(c.Probes), 1) },
		},
		{name: "what the store lacks is taken whole", stored: NewCircuit("k"), mine: open(9, time.Minute), state: Open, generation: 9, check: func(c Circuit) string {
			return want("version", c.Version, 5)
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			mine := test.mine
			e := Event{Kind: Rejoin, By: "me", Circuit: &mine, Diverged: true, Returned: test.returned, Tally: Tally{Requests: 7, AllFailures: 2}}
			c, effect := Step(test.stored, e, start, settings())
			wrong := want("state", c.State, test.state) + want("generation", c.Generation, test.generation) +
				want("changed", effect.Changed, test.changed)
			if test.stored.Version > 0 {
				wrong += want("requests", c.TotalRequests, 7) + want("failures", c.TotalFailures, 2)
			}
			if test.check != nil {
				wrong += test.check(c)
			}
			if wrong != "" {
				t.Error(wrong)
			}
			again, effect := Step(c, Event{Kind: Rejoin, Circuit: &c, Diverged: true}, start, settings())
			if again.State != c.State || again.Generation != c.Generation || effect.Changed {
				t.Errorf("merging the result with itself gives %v of generation %d, want %v of %d", again.State, again.Generation, c.State, c.Generation)
			}
		})
	}
}

func TestStep_MergedWindowKeepsTheWorseOfEachBucket(t *testing.T) {
	bucket := func(second, s, f int) Bucket {
		return Bucket{Start: start.Add(time.Duration(second) * time.Second), Successes: s, Failures: f}
	}
	stored := Circuit{Generation: 1, Version: 1, Window: []Bucket{bucket(0, 5, 1), bucket(1, 9, 0), bucket(3, 1, 1)}}
	mine := Circuit{Generation: 1, Version: 1, Window: []Bucket{bucket(0, 2, 3), bucket(1, 4, 0), bucket(2, 1, 0)}}
	c, _ := Step(stored, Event{Kind: Rejoin, Circuit: &mine, Diverged: true}, start, settings())
	expected := []Bucket{bucket(0, 2, 3), bucket(1, 9, 0), bucket(2, 1, 0), bucket(3, 1, 1)}
	if !slices.Equal(c.Window, expected) {
		t.Errorf("window is %v, want %v", c.Window, expected)
	}
}

// An instance that only remembers and has seen nothing new changes nothing.
func TestStep_RejoinLetsNoMemoryBeatNews(t *testing.T) {
	stored := Circuit{Summary: Summary{ServiceKey: "k", State: Closed}, Generation: 5, Version: 9, Probes: []Probe{{ID: "a", Expires: start.Add(time.Minute)}}}
	mine := Circuit{Summary: Summary{ServiceKey: "k", State: Open, Held: true}, Generation: 4, Version: 8}
	e := Event{Kind: Rejoin, Circuit: &mine, Tally: Tally{Requests: 2}, Returned: []string{"a"}}
	c, effect := Step(stored, e, start, settings())
	wrong := want("state", c.State, Closed) + want("generation", c.Generation, 5) + want("changed", effect.Changed, false) +
		want("requests", c.TotalRequests, 2) + want("probes", len(c.Probes), 0)
	if wrong != "" {
		t.Error(wrong)
	}
	mine.Version = 10 // the store lost what came after version 9
	if c, _ = Step(stored, e, start, settings()); !c.Held {
		t.Error("a circuit that the store lost is not taken from the instance that remembers it")
	}
}
