package gate

import "github.com/rebound-mq/rebound/events"

// RoundRobin says by deficit round robin (Shreedhar and Varghese, 1995) from which lane
// of a key the next operation is taken: that of the
// highest priority, but so that each lower one gets a share of its own when it
// waits: high 15 in 100, normal 10, low 5. It is a value; the zero value is where
// to begin.
//
// A lane that has waited through k turns in a row had at least k × its share − 2
// of them.
type RoundRobin struct {
	deficit [len(shares)]int16 // hundredths of a turn that each priority has to come
}

// shares are the guaranteed shares, in hundredths, by priority.
var shares = [...]int16{events.Critical: 0, events.High: 15, events.Normal: 10, events.Low: 5}

// Waiting is in which lanes operations wait.
type Waiting uint8

// With returns w with the lane of p in it.
func (w Waiting) With(p events.Priority) Waiting { return w | 1<<p }

// Has tells whether operations wait in the lane of p.
func (w Waiting) Has(p events.Priority) bool { return w&(1<<p) != 0 }

// Next returns whose turn it is, and the turns after it. ok is false when nothing
// waits. A lane that does not wait has no deficit.
func (t RoundRobin) Next(w Waiting) (p events.Priority, after RoundRobin, ok bool) {
	chosen := false
	for _, q := range events.Priorities {
		if !w.Has(q) {
			t.deficit[q] = 0
			continue
		}
		t.deficit[q] += shares[q]
		switch {
		case !ok:
			p, ok = q, true
		case t.deficit[q] >= 100 && (!chosen || t.deficit[q] > t.deficit[p]):
			p, chosen = q, true
		}
	}
	if ok {
		t.deficit[p] = max(t.deficit[p]-100, 0)
	}
	return p, t, ok
}

// Split divides n turns among the lanes in which so many operations wait, by
// priority, and returns the turns after them. It stops when all lanes are empty.
func (t RoundRobin) Split(waiting [len(events.Priorities)]int, n int) (turns [len(events.Priorities)]int, after RoundRobin) {
	var w Waiting
	for p, k := range waiting {
		if k > 0 {
			w = w.With(events.Priority(p))
		}
	}
	for ; n > 0; n-- {
		p, next, ok := t.Next(w)
		if !ok {
			break
		}
		t = next
		if turns[p]++; turns[p] == waiting[p] {
			w &^= 1 << p
		}
	}
	return turns, t
}
