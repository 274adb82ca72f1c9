package gate

import "time"

const (
	// rebuildTime is how long a rebuilt ledger gives nothing out. Meanwhile every lease of
	// the lost one runs out, and every instance that uses the key renews and so hands in
	// what it remembers.
	rebuildTime = 2 * LeaseTime
	// freshTime is how old a remembered ledger may be to prove that the store lost it. A
	// store keeps an empty ledger for longer than that.
	freshTime = 5 * LeaseTime
)

// recall restores what the claimant remembers of a ledger that the store has lost
// since, in whole or in its last writes. A store's ledgers are one history, so the
// latest that any instance remembers stands for all: during the quiet time it
// replaces what was recalled before, leases included, and these are settled
// afterwards as if nothing had happened.
//
// An old memory is not the end of that history, because leases were settled since. It
// only proves what was spent at least.
//
// known is whether the ledger knows the claimant's last lease. It does not if the
// claimant brings its memory after the quiet time; then nothing is given back.
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
		// An instance that remembered nothing began it after the other was lost.
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

// join merges, after the quiet time, the ledger that was begun before the lost one
// was recalled.
func (l *Ledger) join(now time.Time) {
	if l.Begun == nil || now.Before(l.Quiet) {
		return
	}
	begun := l.Begun
	l.Begun, l.Joined = nil, begun.Born
	l.Minute.Merge(begun.Minute)
	l.Hour.Merge(begun.Hour)
	l.Uses.merge(begun.Uses, 0)
	for _, h := range begun.Shares {
		own := &l.Shares[l.share(h.Instance)]
		own.Given, own.Budget, own.Heard, own.Extra = h.Given, h.Budget, h.Heard, h.Extra
	}
}

// follows reports whether l is a later version of the ledger seen.
func (l *Ledger) follows(seen *Ledger) bool {
	return seen.Born.Equal(l.Born) && seen.Version <= l.Version || seen.Born.Equal(l.Origin) && seen.Version <= l.Base ||
		seen.Born.Equal(l.Joined) || l.Begun != nil && seen.Born.Equal(l.Begun.Born)
}

// rebuild replaces l by the lost ledger seen. Instances that have renewed since keep
// what they reported in flight.
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

// spend counts in the windows what is known to be spent, without what was given out
// and may have been returned since.
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
