package breaker

import (
	"errors"
	"time"
)

// Permit is the leave to make one attempt. The zero value is none.
type Permit struct {
	breaker    *Breaker
	generation uint64
	probe      *probe // nil for an attempt that is no probe
}

type probe struct {
	id    string
	asked bool // the store may know of it
}

// Probe reports whether the attempt is a probe of a half-open breaker.
func (p Permit) Probe() bool { return p.probe != nil }

// Done says how the attempt ended and how long it took. It must be called once
// for every permit, with [Unused] when the attempt was not made, and never waits
// for a store. A result that comes when the breaker has changed since the permit
// was given counts in the totals only.
func (p Permit) Done(r Result, took time.Duration, now time.Time) {
	b := p.breaker
	switch {
	case b == nil:
	case p.probe != nil:
		b.giveBack(p, r, took, now)
	default:
		b.record(p.generation, r, took, now)
	}
}

func (b *Breaker) record(generation uint64, r Result, took time.Duration, now time.Time) {
	b.mu.Lock()
	if !b.attached {
		b.roll(b.group.clock(now))
	}
	late := generation != b.circuit.Generation
	b.tally.Add(r, took, late)
	// What may open the breaker, or ends a run of failures, takes effect at once.
	urgent := !late && (r == Failure || r == Success && b.circuit.FailureCount > 0)
	switch {
	case b.attached:
		b.send(urgent)
	case urgent:
		n := b.note(b.foldAt(b.group.clock(now)))
		b.mu.Unlock()
		n.deliver()
		return
	}
	b.mu.Unlock()
}

// roll begins the bucket of now and folds in what belongs to the one before.
func (b *Breaker) roll(now time.Time) {
	if now.UnixNano() < b.bucketEnd {
		return
	}
	b.fold()
	window := b.settings.Load().Window
	b.bucketEnd = bucketStart(now, window).Add(bucketWidth(window)).UnixNano()
}

func (b *Breaker) giveBack(p Permit, r Result, took time.Duration, now time.Time) {
	e := Event{Kind: Return, By: b.group.instance, Generation: p.generation, Probe: p.probe.id, Result: r, Took: took}
	b.mu.Lock()
	if b.attached {
		b.returns = append(b.returns, e)
		b.send(true)
		b.mu.Unlock()
		return
	}
	n := b.applyDetached(e, p.probe.asked, b.group.clock(now))
	b.mu.Unlock()
	n.deliver()
}

// Ticket stands for a [Permit] whose attempt ends at another instance perhaps. The
// zero value is that of no permit.
type Ticket struct {
	Generation uint64
	// Probe is the probe's id, empty for an attempt that is no probe.
	Probe string
}

// Ticket returns what [Breaker.Conclude] needs instead of [Permit.Done]. A probe
// that is not heard of again is given back after its lease.
func (p Permit) Ticket() Ticket {
	t := Ticket{Generation: p.generation}
	if p.probe != nil {
		t.Probe = p.probe.id
	}
	return t
}

// Conclude says how an attempt ended and how long it took, like [Permit.Done], for
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

// Why an attempt may not be made. [Breaker.Ready] says when asking again is
// worthwhile.
var (
	// ErrOpen: the breaker is open.
	ErrOpen = errors.New("breaker: open")
	// ErrProbing: the breaker is half open and as many probes are in flight as
	// may be.
	ErrProbing = errors.New("breaker: half open, with all its probes in flight")
)

// ErrAlone is returned by an operator's action that took effect on this instance
// only, because the store could not be reached.
var ErrAlone = errors.New("breaker: changed on this instance only; the store is out of reach")
