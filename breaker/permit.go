package breaker

import (
	"errors"
	"time"

	"github.com/rebound-mq/rebound/internal/clip"
)

// Permit is the permission for one attempt. The zero value permits nothing, and its Done does
// nothing.
type Permit struct {
	breaker    *Breaker
	generation uint64
	probe      *probe // nil if the attempt is not a probe
}

type probe struct {
	id    string
	asked bool // the store may know the probe
}

// Probe reports whether the attempt is a probe of a half-open breaker.
func (p Permit) Probe() bool { return p.probe != nil }

// Done reports how the attempt ended and how long it took. Call it once for every permit, with
// [Unused] if the attempt was not made. It never waits for a store. If the breaker has changed
// since the permit was given, the result counts in the totals only.
func (p Permit) Done(r Result, took time.Duration, now time.Time) {
	p.Ended(Attempt{Result: r, Took: took}, now)
}

// Ended is [Permit.Done] with the text of a failure.
func (p Permit) Ended(a Attempt, now time.Time) {
	b := p.breaker
	a.Error = clip.Text(a.Error, MaxError)
	switch {
	case b == nil:
	case p.probe != nil:
		b.giveBack(p, a, now)
	default:
		b.record(p.generation, a, now)
	}
}

func (b *Breaker) record(generation uint64, a Attempt, now time.Time) {
	r := a.Result
	b.mu.Lock()
	if !b.attached {
		b.roll(b.group.clock(now))
	}
	late := generation != b.circuit.Generation
	b.tally.Add(a, late)
	// A result that may open the breaker or that ends a run of failures takes effect at once.
	urgent := !late && (r == Failure || r == Success && b.circuit.FailureCount > 0)
	switch {
	case b.attached:
		b.send(urgent)
	case urgent:
		n := b.foldAt(b.group.clock(now))
		b.mu.Unlock()
		n.deliver()
		return
	}
	b.mu.Unlock()
}

// roll starts the bucket of now and folds in the results of the previous one.
func (b *Breaker) roll(now time.Time) {
	if now.UnixNano() < b.bucketEnd {
		return
	}
	b.fold()
	width := bucketWidth(b.settings.Load().Window)
	b.bucketEnd = bucketStart(now, width).Add(width).UnixNano()
}

func (b *Breaker) giveBack(p Permit, a Attempt, now time.Time) {
	e := Event{Kind: Return, By: b.group.instance, Generation: p.generation, Probe: p.probe.id, Result: a.Result, Took: a.Took, Error: a.Error}
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

// Ticket represents a [Permit] whose attempt may end at another instance. The zero value
// represents no permit.
type Ticket struct {
	Generation uint64
	// Probe is the probe's id, empty if the attempt is not a probe.
	Probe string
}

// Ticket returns what [Breaker.Conclude] needs in place of [Permit.Done]. A probe that is never
// concluded is given back after its lease.
func (p Permit) Ticket() Ticket {
	t := Ticket{Generation: p.generation}
	if p.probe != nil {
		t.Probe = p.probe.id
	}
	return t
}

// Conclude reports how an attempt ended, like [Permit.Ended], for a ticket from any instance that
// shares the store. Call it at most once per ticket, and not in addition to Done.
func (b *Breaker) Conclude(t Ticket, a Attempt, now time.Time) {
	a.Error = clip.Text(a.Error, MaxError)
	switch {
	case t.Generation == 0:
	case t.Probe != "":
		b.giveBack(Permit{breaker: b, generation: t.Generation, probe: &probe{id: t.Probe, asked: true}}, a, now)
	default:
		b.record(t.Generation, a, now)
	}
}

// The reasons why an attempt is refused. [Breaker.Ready] says when to ask again.
var (
	// ErrOpen: the breaker is open.
	ErrOpen = errors.New("breaker: open")
	// ErrProbing: the breaker is half open with the maximum of probes in flight.
	ErrProbing = errors.New("breaker: half open, with all its probes in flight")
)

// ErrAlone means that an operator's action took effect on this instance only, because the store
// could not be reached.
var ErrAlone = errors.New("breaker: changed on this instance only; the store is out of reach")
