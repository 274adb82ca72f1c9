package scheduler

import (
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

// Pauses is a set of pauses. It is immutable; a nil one is empty.
type Pauses struct{ all []events.Pause }

// NewPauses returns a set of pauses, which it takes over.
func NewPauses(all []events.Pause) *Pauses { return &Pauses{all} }

// Of returns whether a key is paused at now, and until when; a zero time is for as long as the set
// is in force.
func (p *Pauses) Of(service, operation string, now time.Time) (until time.Time, paused bool) {
	if p == nil {
		return time.Time{}, false
	}
	for i := range p.all {
		one := &p.all[i]
		switch {
		case one.Ended(now) || !one.Pattern.Matches(service, operation):
		case one.Until.IsZero():
			return time.Time{}, true
		case one.Until.After(until):
			until, paused = one.Until, true
		}
	}
	return until, paused
}

// pausedKey is what a set of pauses says of one key.
type pausedKey struct {
	by     *Pauses
	paused bool
	until  time.Time // zero for as long as the set is in force
}

// SetPauses puts the pauses in force and wakes the keys that are paused no longer, or for another
// time.
func (g *Gates) SetPauses(pauses *Pauses) {
	before := g.pauses.Swap(pauses)
	now := g.config.Now()
	for _, k := range g.all() {
		// Before it ended by itself it was in force.
		was := k.pausedBy(before, time.Time{})
		if !was.paused {
			continue
		}
		if is := g.pause(k, now); !is.Limited || !is.Next.Equal(was.until) {
			k.wake()
			g.opened(k.key)
		}
	}
}

// pause returns what the pauses leave of a key.
func (g *Gates) pause(k *keyGate, now time.Time) gate.Bound {
	in := g.pauses.Load()
	if in == nil {
		return gate.Bound{}
	}
	p := k.pausedBy(in, now)
	if !p.paused || !p.until.IsZero() && !now.Before(p.until) {
		return gate.Bound{}
	}
	return gate.Bound{Limited: true, Next: p.until}
}

// pausedBy returns what a set of pauses says of the key, from memory if it was asked before.
func (k *keyGate) pausedBy(in *Pauses, now time.Time) *pausedKey {
	if p := k.paused.Load(); p != nil && p.by == in {
		return p
	}
	p := &pausedKey{by: in}
	if service, operation, err := events.SplitKey(k.key); err == nil { // no pattern names another
		p.until, p.paused = in.Of(service, operation, now)
	}
	k.paused.Store(p)
	return p
}
