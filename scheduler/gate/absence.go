package gate

import "time"

// Absences are the target subjects of one key on which nobody listened when this
// instance last asked. A request that meets no responders reached nobody, so it is no
// attempt. One operation of a subject, its prober, stays in hand and asks again until
// somebody answers; the others are held. The zero value knows of no absence. It is not
// safe for concurrent use.
//
// Absences are kept by subject and not by key: one operation with a misspelt target must
// not shut its whole key.
type Absences struct {
	all map[string]*absence

	// An operation in a lane does not show its subject, so the lanes let out few while
	// anybody is absent: window at once, not before next, and after delay again if they
	// were turned away.
	window int
	delay  time.Duration
	next   time.Time
}

// absence is one subject on which nobody listened.
type absence struct {
	since  time.Time
	missed int       // how often in a row nobody listened
	next   time.Time // when to ask again
	prober any       // the operation that asks; nil when none is in hand
	lasts  bool      // it was found to last
}

const (
	// mostAbsences bounds the absent subjects of a key. Operations for others are held
	// and asked for by turns.
	mostAbsences = 8
	// firstLook is how long after the first miss the prober asks again. The time doubles
	// up to what the caller gives, so that a target which restarts is hardly missed.
	firstLook = 100 * time.Millisecond
	// firstDelay and longestDelay bound how long nothing leaves the lanes after an
	// operation was turned away, or a prober was not kept in hand.
	firstDelay   = time.Second
	longestDelay = 15 * time.Second
	// widestWindow is how many operations the lanes let out at once when others of
	// the key were answered.
	widestWindow = 128
)

// Enter reports whether op may go to subject: nobody is known to be absent there, or op is
// the prober, or becomes it. Otherwise next is when to ask again, zero if not before
// [Absences.Met].
func (a *Absences) Enter(op any, subject string, now time.Time) (next time.Time, ok bool) {
	s := a.all[subject]
	switch {
	case s == nil, s.prober == op:
		return next, true
	case s.prober == nil && !now.Before(s.next):
		s.prober = op
		return next, true
	case s.prober == nil:
		next = s.next
	}
	a.turnAway(now)
	return next, false
}

// Missed records that nobody listened on subject. If probes, op stays in hand and asks
// again at next; otherwise it is held. every is the longest pause between two requests of
// a prober; 0 keeps no prober in hand.
func (a *Absences) Missed(op any, subject string, every time.Duration, now time.Time) (next time.Time, probes bool) {
	s := a.all[subject]
	if s == nil {
		if len(a.all) >= mostAbsences {
			a.turnAway(now)
			return next, false
		}
		if a.all == nil {
			a.all, a.window, a.delay, a.next = make(map[string]*absence), 1, firstDelay, now.Add(firstDelay)
		}
		s = &absence{since: now}
		a.all[subject] = s
	}
	if s.prober == nil {
		s.prober = op
	}
	if s.prober != op {
		return next, false // it was on its way when another missed
	}
	s.missed++
	if every <= 0 {
		a.turnAway(now)
		s.prober, s.next = nil, a.next
		return s.next, false
	}
	s.next = now.Add(doubled(firstLook, s.missed-1, every))
	return s.next, true
}

// Met records that somebody listens on subject. If ended, nobody was known to for as long
// as lasted.
func (a *Absences) Met(subject string, now time.Time) (lasted time.Duration, ended bool) {
	if len(a.all) == 0 {
		return 0, false
	}
	s := a.all[subject]
	if s == nil {
		a.window, a.delay, a.next = min(2*a.window, widestWindow), firstDelay, time.Time{}
		return 0, false
	}
	delete(a.all, subject)
	if len(a.all) == 0 {
		*a = Absences{}
	}
	return now.Sub(s.since), true
}

// Lasts reports, once for each absence, that nobody has listened on subject for as long as
// most.
func (a *Absences) Lasts(subject string, most time.Duration, now time.Time) bool {
	s := a.all[subject]
	if s == nil || s.lasts || now.Sub(s.since) < most {
		return false
	}
	s.lasts = true
	return true
}

// Leave ends whatever probing op does, because it is not in hand any more. It reports
// whether op was a prober.
func (a *Absences) Leave(op any) (probed bool) {
	for _, s := range a.all {
		if s.prober == op {
			s.prober, probed = nil, true
		}
	}
	return probed
}

// Probers returns how many probers there are.
func (a *Absences) Probers() int {
	n := 0
	for _, s := range a.all {
		if s.prober != nil {
			n++
		}
	}
	return n
}

// Bound returns how many operations the lanes of the key may let out.
func (a *Absences) Bound(now time.Time) Bound {
	if len(a.all) == 0 {
		return Bound{}
	}
	next := a.next
	for _, s := range a.all {
		if s.prober == nil && s.next.Before(next) {
			next = s.next
		}
	}
	if now.Before(next) {
		return Bound{Limited: true, Next: next}
	}
	return Bound{Limited: true, N: a.window}
}

// Absent describes the subject on which nobody has listened for the longest time.
type Absent struct {
	Subject string    `json:"subject"`
	Since   time.Time `json:"since"`
	// Next is when it is asked for again.
	Next time.Time `json:"next"`
}

// Longest returns the longest absence; ok is false if there is none.
func (a *Absences) Longest() (longest Absent, ok bool) {
	for subject, s := range a.all {
		if !ok || s.since.Before(longest.Since) {
			longest, ok = Absent{Subject: subject, Since: s.since, Next: s.next}, true
		}
	}
	return longest, ok
}

// turnAway lets the lanes rest after an operation came out in vain.
func (a *Absences) turnAway(now time.Time) {
	a.window, a.next = 1, now.Add(a.delay)
	a.delay = min(2*a.delay, longestDelay)
}

// doubled returns d doubled n times, at most longest.
func doubled(d time.Duration, n int, longest time.Duration) time.Duration {
	for ; n > 0 && d < longest; n-- {
		d *= 2
	}
	return min(d, longest)
}

// Prober is the operation that stays in hand to be the next probe of the key's open breaker:
// one that was tried before, which the target may treat otherwise than what it sees for the
// first time. After one that failed, a probe comes from the lanes, so that an operation
// that always fails cannot keep the breaker open. The zero value knows of none. It is not safe
// for concurrent use.
type Prober struct {
	op     any  // nil when none is in hand
	failed bool // the last probe was one from the hand, and did not succeed
}

// Await reports whether op, which was tried before, stays in hand until the breaker may be
// probed.
func (p *Prober) Await(op any) bool {
	if p.op == nil && !p.failed {
		p.op = op
	}
	return p.op == op
}

// Awaits reports whether an operation is in hand.
func (p *Prober) Awaits() bool { return p.op != nil }

// Probes records that the attempt of op is a probe.
func (p *Prober) Probes(op any) { p.failed = p.op == op }

// Succeeded records that a probe has succeeded.
func (p *Prober) Succeeded() { p.failed = false }

// Leave records that op does not wait any more. It reports whether it did.
func (p *Prober) Leave(op any) bool {
	if p.op == nil || p.op != op {
		return false
	}
	p.op = nil
	return true
}
