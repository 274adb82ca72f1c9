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

// Of returns the pause that holds a key for the longest from now on, nil if none does.
func (p *Pauses) Of(service, operation string, now time.Time) (longest *events.Pause) {
	if p == nil {
		return nil
	}
	for i := range p.all {
		one := &p.all[i]
		switch {
		case one.Ended(now) || !one.Pattern.Matches(service, operation):
		case one.Until.IsZero():
			return one
		case longest == nil || one.Until.After(longest.Until):
			longest = one
		}
	}
	return longest
}

// pausedKey is what a set of pauses says of one key.
type pausedKey struct {
	by    *Pauses
	pause *events.Pause // nil when it is not paused
}

// until returns when the pause ends by itself, zero for as long as the set is in force.
func (p *pausedKey) until() time.Time {
	if p.pause == nil {
		return time.Time{}
	}
	return p.pause.Until
}

// SetPauses puts the pauses in force and wakes the keys that are paused no longer, or for another
// time.
func (g *Gates) SetPauses(pauses *Pauses) {
	before := g.pauses.Swap(pauses)
	now := g.config.Now()
	for _, k := range g.all() {
		// Before it ended by itself it was in force.
		was := k.pausedBy(before, time.Time{})
		if was.pause == nil {
			continue
		}
		if is := g.pause(k, now); !is.Limited || !is.Next.Equal(was.until()) {
			k.wake()
			g.opened(k.key)
		}
	}
}

// pause returns what the pauses leave of a key.
func (g *Gates) pause(k *keyGate, now time.Time) gate.Bound {
	if p := g.pauseOf(k, now); p != nil {
		return gate.Bound{Limited: true, Next: p.Until}
	}
	return gate.Bound{}
}

// pauseOf returns the pause that is in force for a key, nil if there is none.
func (g *Gates) pauseOf(k *keyGate, now time.Time) *events.Pause {
	in := g.pauses.Load()
	if in == nil {
		return nil
	}
	p := k.pausedBy(in, now).pause
	if p == nil || p.Ended(now) {
		return nil
	}
	return p
}

// pausedBy returns what a set of pauses says of the key, from memory if it was asked before.
func (k *keyGate) pausedBy(in *Pauses, now time.Time) *pausedKey {
	if p := k.paused.Load(); p != nil && p.by == in {
		return p
	}
	p := &pausedKey{by: in}
	if service, operation, err := events.SplitKey(k.key); err == nil { // no pattern names another
		p.pause = in.Of(service, operation, now)
	}
	k.paused.Store(p)
	return p
}
