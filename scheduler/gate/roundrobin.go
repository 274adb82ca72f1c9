package gate

import "github.com/rebound-mq/rebound/events"

// RoundRobin picks the lane of a key that the next operation is taken from, by deficit
// round robin (Shreedhar and Varghese, 1995): the lane of the highest priority, except
// that each lower one that waits gets a guaranteed share: high 15 in 100, normal 10,
// low 5. It is a value; the zero value is where to begin.
//
// A lane that has waited through k turns in a row had at least k × its share − 2
// of them.
type RoundRobin struct {
	deficit [len(shares)]int16 // hundredths of a turn that each priority is owed
}

// shares are the guaranteed shares, in hundredths, by priority.
var shares = [...]int16{events.Critical: 0, events.High: 15, events.Normal: 10, events.Low: 5}

// Waiting is the set of lanes in which operations wait.
type Waiting uint8

// With returns w with the lane of p added.
func (w Waiting) With(p events.Priority) Waiting { return w | 1<<p }

// Has reports whether operations wait in the lane of p.
func (w Waiting) Has(p events.Priority) bool { return w&(1<<p) != 0 }

// Lengths counts the operations in the lanes of a key by priority.
type Lengths [len(events.Priorities)]int

// Total returns how many operations there are.
func (n Lengths) Total() int {
	total := 0
	for _, k := range n {
		total += k
	}
	return total
}

// Waiting returns the lanes in which operations wait.
func (n Lengths) Waiting() (w Waiting) {
	for p, k := range n {
		if k > 0 {
			w = w.With(events.Priority(p))
		}
	}
	return w
}

// Next returns the priority whose turn it is and the state after that turn. ok is
// false when nothing waits. An empty lane has no deficit.
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

// Split divides n turns among lanes of the given lengths, by priority, and returns the
// state after them. It stops when all lanes are empty.
func (t RoundRobin) Split(waiting Lengths, n int) (turns Lengths, after RoundRobin) {
	w := waiting.Waiting()
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
