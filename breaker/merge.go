package breaker

import (
	"cmp"
	"slices"
)

// rejoin merges the circuit of an instance that was alone into the store's. The worse state wins:
// held, then open, half open, closed; of two open circuits the one that waits longer, of two
// closed ones the longer run of failures. Probes in flight add up. If the store has no circuit,
// because it lost it or never had it, it takes the instance's whole. A circuit that is merely
// remembered counts only if its generation is later: then the store lost the circuit and got it
// back from an instance that missed the latest change.
func (t *step) rejoin() {
	mine := t.e.Circuit
	if mine == nil {
		return
	}
	t.effect.Written = true
	if t.Version == 0 {
		key, generation := t.ServiceKey, t.Generation
		t.Circuit = mine.Clone()
		t.ServiceKey, t.Generation = key, max(generation, mine.Generation)
		t.expire()
		return
	}
	t.count(&t.e.Tally)
	if !t.e.Diverged && mine.Version <= t.Version && mine.Generation <= t.Generation {
		t.mergeProbes(nil)
		return
	}
	t.mergeProbes(mine.Probes)
	t.Version = max(t.Version, mine.Version)
	switch order := cmp.Compare(mine.badness(), t.badness()); {
	case order > 0:
		t.take(mine)
	case order < 0:
		if mine.Generation >= t.Generation {
			// The permits that the instance gave out while alone become void.
			t.Generation = mine.Generation + 1
		}
	default:
		t.mergeEqual(mine)
	}
}

// take takes over the instance's circuit, which is worse.
func (t *step) take(mine *Circuit) {
	generation := t.Generation
	t.State, t.Held, t.NextAttemptTime = mine.State, mine.Held, mine.NextAttemptTime
	t.FailureCount, t.HalfOpenAttempts, t.HalfOpenSuccesses = mine.FailureCount, mine.HalfOpenAttempts, mine.HalfOpenSuccesses
	t.Generation = mine.Generation
	if generation >= mine.Generation {
		t.Generation = generation + 1
	}
	t.Cause, t.Note, t.ChangedAt, t.ChangedBy = CauseMerged, mine.Note, t.now, t.e.By
	t.Operated = mine.Operated
	if t.OutageSince.IsZero() {
		t.OutageSince = mine.OutageSince
	}
	t.effect.Changed = true
}

func (t *step) mergeEqual(mine *Circuit) {
	t.Generation = max(t.Generation, mine.Generation)
	t.FailureCount = max(t.FailureCount, mine.FailureCount)
	t.HalfOpenSuccesses = min(t.HalfOpenSuccesses, mine.HalfOpenSuccesses)
	if mine.NextAttemptTime.After(t.NextAttemptTime) {
		t.NextAttemptTime = mine.NextAttemptTime
	}
	if mine.Operated.At.After(t.Operated.At) {
		t.Operated = mine.Operated
	}
	t.mergeWindow(mine.Window)
}

func (t *step) mergeProbes(mine []Probe) {
	returned := func(p Probe) bool { return slices.Contains(t.e.Returned, p.ID) }
	t.Probes = slices.DeleteFunc(t.Probes, returned)
	for _, p := range mine {
		if !slices.ContainsFunc(t.Probes, func(q Probe) bool { return q.ID == p.ID }) && !returned(p) {
			t.Probes = append(t.Probes, p)
		}
	}
	t.expire()
}

// mergeWindow keeps, of two buckets for the same time, the one with more failures. It does not
// add them, because both may contain what happened before the instance was detached.
func (t *step) mergeWindow(mine []Bucket) {
	if len(mine) == 0 {
		return
	}
	all := append(slices.Clone(t.Window), mine...)
	slices.SortStableFunc(all, func(a, b Bucket) int {
		return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(b.Failures, a.Failures), cmp.Compare(b.Successes, a.Successes))
	})
	all = slices.CompactFunc(all, func(a, b Bucket) bool { return a.Start.Equal(b.Start) })
	t.Window = all[max(0, len(all)-windowBuckets):]
}

// badness orders states from best to worst.
func (c *Circuit) badness() int {
	switch {
	case c.Held:
		return 3
	case c.State == Open:
		return 2
	case c.State == HalfOpen:
		return 1
	default:
		return 0
	}
}
