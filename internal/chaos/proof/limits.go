package proof

import (
	"slices"
	"time"
)

// budgetWindow is the window of a budget per minute.
const budgetWindow = time.Minute

// limits checks the limits of each key. It reports each key's worst moment once. It leaves out
// the attempts of workers: the operation leaves the gate with the publish, and the stream decides
// when it reaches a worker.
func (c *checker) limits() {
	byKey := make(map[string][]*Attempt)
	for i := range c.record.Attempts {
		if a := &c.record.Attempts[i]; a.Token == "" {
			byKey[a.Key] = append(byKey[a.Key], a)
		}
	}
	for key, attempts := range byKey {
		slices.SortStableFunc(attempts, func(a, b *Attempt) int { return a.At.Compare(b.At) })
		c.limit(key, attempts, c.record.Limits[key])
	}
}

// limit checks the limits of one key, whose attempts are sorted by arrival.
func (c *checker) limit(key string, attempts []*Attempt, l Limits) {
	if most, at := peak(attempts, l.Timeout); l.Concurrent > 0 && most > l.Concurrent {
		c.report(OverLimit, "", "%d operations of %s in flight at %s, of %d that may be", most, key, clock(at), l.Concurrent)
	}
	if most, at := busiest(attempts, budgetWindow); l.Budget > 0 && most > l.Budget {
		c.report(OverLimit, "", "%d attempts of %s in the minute before %s, of %d that the budget allows", most, key, clock(at), l.Budget)
	}
	if l.Probes > 0 {
		c.probes(key, attempts, l)
	}
}

// probes checks the number of attempts in flight while a breaker is half-open. An attempt that
// began earlier is not a probe.
func (c *checker) probes(key string, attempts []*Attempt, l Limits) {
	for _, span := range c.halfOpen(key) {
		var probes []*Attempt
		for _, a := range attempts {
			if a.At.After(span.from) && a.At.Before(span.to) {
				probes = append(probes, a)
			}
		}
		if most, at := peak(probes, l.Timeout); most > l.Probes {
			c.report(OverLimit, "", "%d probes of %s in flight at %s, of %d that may be", most, key, clock(at), l.Probes)
		}
	}
}

type span struct{ from, to time.Time }

// halfOpen returns the times when the breaker of a key was half-open, leaving out the moments
// around each change at which instances may not have known of it.
func (c *checker) halfOpen(key string) []span {
	var changes []change
	for _, b := range c.record.Breakers {
		if b.Event.Key == key {
			changes = append(changes, change{b.Event.At, b.Event.To})
		}
	}
	slices.SortStableFunc(changes, func(a, b change) int { return a.at.Compare(b.at) })
	var spans []span
	for i, ch := range changes {
		if ch.to != "HALF_OPEN" || i+1 == len(changes) {
			continue
		}
		s := span{ch.at.Add(changeSlack), changes[i+1].at.Add(-earlySlack)}
		if s.from.Before(s.to) {
			spans = append(spans, s)
		}
	}
	return spans
}

type change struct {
	at time.Time
	to string
}

// peak returns the maximum number of attempts in flight, and when. An attempt counts for at most
// timeout; attempts must be sorted by arrival.
func peak(attempts []*Attempt, timeout time.Duration) (most int, at time.Time) {
	var ends []time.Time
	for _, a := range attempts {
		ends = slices.DeleteFunc(ends, func(t time.Time) bool { return !t.After(a.At) })
		end := a.End
		if limit := a.At.Add(timeout); end.IsZero() || timeout > 0 && end.After(limit) {
			end = limit
		}
		ends = append(ends, end)
		if len(ends) > most {
			most, at = len(ends), a.At
		}
	}
	return most, at
}

// busiest returns the maximum number of attempts within a window, and when that window ended.
func busiest(attempts []*Attempt, window time.Duration) (most int, at time.Time) {
	first := 0
	for i, a := range attempts {
		for !attempts[first].At.After(a.At.Add(-window)) {
			first++
		}
		if n := i - first + 1; n > most {
			most, at = n, a.At
		}
	}
	return most, at
}
