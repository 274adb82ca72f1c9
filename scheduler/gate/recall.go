package gate

import "time"

const (
	// rebuildTime is how long a ledger that is rebuilt gives nothing out. Meanwhile every
	// lease of the lost one runs out, and every instance in use of the key renews and
	// so hands in what it remembers.
	rebuildTime = 2 * LeaseTime
	// freshTime is how old a memory of a ledger may be to prove that it is lost. A store
	// keeps one for longer though it holds nothing any more.
	freshTime = 5 * LeaseTime
)

// recall brings into the ledger what the claimant has seen of one that the store has
// lost since, all of it or its last writes. All that a store held is one history, so
// the latest of what the instances remember stands for all: during the quiet time it
// takes the place of what was remembered before, leases included, which are settled
// afterwards as if nothing had happened.
//
// A memory that is old is no history, for leases were settled since. What it tells to
// be spent counts at the least.
//
// known is whether the ledger knows of the claimant's last lease. It does not when
// the claimant comes with its memory after the quiet time. Then nothing is given back.
func (l *Ledger) recall(c Claim, now time.Time) (known bool) {
	older := l.Born.IsZero() && len(l.Shares) > 0 // an instance of an older version wrote it
	lost := l.Born.IsZero() && !older
	if l.Born.IsZero() {
		l.Born = now
	}
	l.join(now)
	if c.Seen == nil || older || l.follows(c.Seen) {
		return true
	}
	seen := *c.Seen
	fresh := now.Sub(c.Heard) < freshTime
	quiet := now.Before(l.Quiet)
	switch {
	case quiet && fresh:
		if seen.Born.After(l.Origin) || seen.Born.Equal(l.Origin) && seen.Version > l.Base {
			l.rebuild(seen, l.Born, l.Quiet)
		}
		return true
	case fresh && (lost || !seen.Born.Before(l.Born)):
		l.rebuild(seen, now, now.Add(rebuildTime))
		return true
	case fresh && l.Origin.IsZero() && l.Begun == nil && seen.Born.Before(l.Born):
		// It was begun by an instance that knew of nothing, after the other was lost.
		begun := *l
		l.rebuild(seen, now, now.Add(rebuildTime))
		l.Begun = &begun
		return true
	case lost && seen.Empties(now).After(now):
		l.Quiet, quiet = now.Add(rebuildTime), true
	}
	seen.spend(c, now)
	l.Minute.raise(seen.Minute)
	l.Hour.raise(seen.Hour)
	return quiet
}

// join takes in, after the quiet time, the ledger that was begun before the lost one
// was remembered.
func (l *Ledger) join(now time.Time) {
	if l.Begun == nil || now.Before(l.Quiet) {
		return
	}
	begun := l.Begun
	l.Begun, l.Joined = nil, begun.Born
	l.Minute.Merge(begun.Minute)
	l.Hour.Merge(begun.Hour)
	for _, h := range begun.Shares {
		own := &l.Shares[l.share(h.Instance)]
		own.Given, own.Budget, own.Heard, own.Extra = h.Given, h.Budget, h.Heard, h.Extra
	}
}

// follows reports whether l is what became of the ledger seen.
func (l *Ledger) follows(seen *Ledger) bool {
	return seen.Born.Equal(l.Born) && seen.Version <= l.Version || seen.Born.Equal(l.Origin) && seen.Version <= l.Base ||
		seen.Born.Equal(l.Joined) || l.Begun != nil && seen.Born.Equal(l.Begun.Born)
}

// rebuild makes l what was seen of a lost ledger. Instances that have renewed since
// have in flight what they said then.
func (l *Ledger) rebuild(seen Ledger, born, quiet time.Time) {
	since, begun := l.Shares, l.Begun
	*l = seen
	l.Shares = append([]Share(nil), seen.Shares...)
	l.Born, l.Quiet, l.Origin, l.Base = born, quiet, seen.Born, seen.Version
	l.Begun, l.Joined = begun, time.Time{}
	for _, h := range since {
		own := &l.Shares[l.share(h.Instance)]
		own.Concurrent, own.Demand, own.Expires = h.Concurrent, h.Demand, h.Expires
	}
}

// spend leaves in the windows what is known to be spent: not what was given out and
// may have been returned since.
func (l *Ledger) spend(c Claim, now time.Time) {
	for _, h := range l.Shares {
		unused := h.Budget
		if h.Instance == c.Instance && h.Given.Equal(c.Heard) {
			unused = min(c.Unused, h.Budget)
		}
		l.Minute.GiveBack(unused, h.Given, now)
		l.Hour.GiveBack(unused, h.Given, now)
	}
}
