package breaker

import "time"

// Ticket stands for a [Permit] whose attempt ends at another instance perhaps. The
// zero value is that of no permit.
type Ticket struct {
	Generation uint64
	// Probe is the probe's id, empty for an attempt that is none.
	Probe string
}

// Ticket returns what [Breaker.Conclude] needs in the place of [Permit.Done]. A
// probe of which nothing is heard is given back after its lease.
func (p Permit) Ticket() Ticket {
	t := Ticket{Generation: p.generation}
	if p.probe != nil {
		t.Probe = p.probe.id
	}
	return t
}

// Conclude tells how an attempt ended and how long it took, like [Permit.Done], for
// the permit of a ticket that any instance of the group's store was given. It must
// be called at most once for a permit, for which Done is not called.
func (b *Breaker) Conclude(t Ticket, r Result, took time.Duration, now time.Time) {
	switch {
	case t.Generation == 0:
	case t.Probe != "":
		b.giveBack(Permit{breaker: b, generation: t.Generation, probe: &probe{id: t.Probe, asked: true}}, r, took, now)
	default:
		b.record(t.Generation, r, took, now)
	}
}
