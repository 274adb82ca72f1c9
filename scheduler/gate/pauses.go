package gate

import (
	"time"

	"github.com/rebound-mq/rebound/events"
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
