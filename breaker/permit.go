package breaker

import "time"

// Permit is the leave to make one attempt. The zero value is none.
type Permit struct {
	breaker    *Breaker
	generation uint64
	probe      *probe // nil for an attempt that is none
}

type probe struct {
	id    string
	asked bool // the store may know of it
}

// Probe reports whether the attempt is a probe of a half-open breaker.
func (p Permit) Probe() bool { return p.probe != nil }

// Done tells how the attempt ended and how long it took. It must be called once
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
	if !b.joined {
		b.roll(b.group.clock(now))
	}
	late := generation != b.circuit.Generation
	b.tally.Add(r, took, late)
	// What may open the breaker, or ends a run of failures, takes effect at once.
	urgent := !late && (r == Failure || r == Success && b.circuit.FailureCount > 0)
	switch {
	case b.joined:
		b.send(urgent)
	case urgent:
		n := b.note(b.foldAt(b.group.clock(now)))
		b.mu.Unlock()
		n.tell()
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
	if b.joined {
		b.returns = append(b.returns, e)
		b.send(true)
		b.mu.Unlock()
		return
	}
	n := b.alone(e, p.probe.asked, b.group.clock(now))
	b.mu.Unlock()
	n.tell()
}
