package demo

import (
	"crypto/sha256"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rebound-mq/rebound/events"
)

// hash identifies the bytes of a payload.
type hash = [sha256.Size]byte

// tally follows operations from their failed first delivery to their end. It is safe for
// concurrent use.
type tally struct {
	// goal is how many operations should end, 0 for no bound.
	goal int

	mu         sync.Mutex // guards the fields below
	operations map[string]*operation
	waiting    map[string]*operation // those without an outcome
	counts     counts
	attempts   []int           // of each ended operation
	successes  []time.Duration // from the first failure
	done       chan struct{}   // closed when goal is reached
}

// operation is what is known of one webhook at the target and, if its first delivery failed, of
// the operation.
type operation struct {
	event     string
	submitted bool
	payload   hash
	// attempt is the last attempt known to have failed.
	attempt int
	// redeliveries are the attempts after the first, by number.
	redeliveries map[int]redelivery
	// seen has a bit for each attempt that reached the target.
	seen     uint64
	accepted []hash
	// inTime counts how often the target accepted it and answered in time.
	inTime   int
	outcomes int
}

// redelivery holds the times of one attempt, zero while they are not known.
type redelivery struct {
	// planned is when it was to be made by the decision, due by the stored state: an early
	// release makes an operation due at once.
	planned, due, reached time.Time
}

// released reports whether the attempt became due before its time.
func (r redelivery) released() bool { return !r.due.IsZero() && r.due.Before(r.planned) }

// lateness returns how late the attempt reached its target; known is false until all of it is.
func (r redelivery) lateness() (late time.Duration, known bool) {
	switch {
	case r.reached.IsZero() || r.planned.IsZero():
		return 0, false
	case r.released():
		return r.reached.Sub(r.due), true
	}
	return r.reached.Sub(r.planned), true
}

// counts are the figures of all operations.
type counts struct {
	// First counts the webhooks accepted at their first delivery.
	First int
	// Submitted, Success and Failed count operations.
	Submitted, Success, Failed int
	// Redeliveries counts attempts after the first.
	Redeliveries int
	// Reasons counts the failed ones by reason.
	Reasons map[events.Reason]int
	// Repeated counts attempts that reached the target more than once.
	Repeated int
	// Open counts operations without an outcome, and NextDue is when the first of them is due
	// that is not yet, zero if there is none.
	Open    int
	NextDue time.Time
}

func newTally(goal int) *tally {
	return &tally{
		goal: goal, operations: make(map[string]*operation), waiting: make(map[string]*operation),
		counts: counts{Reasons: make(map[events.Reason]int)}, done: make(chan struct{}),
	}
}

// of returns the state of an operation; mu must be held.
func (t *tally) of(id string) *operation {
	o := t.operations[id]
	if o == nil {
		o = &operation{}
		t.operations[id] = o
	}
	return o
}

// arrived records that an attempt reached the target.
func (t *tally) arrived(id string, attempt int, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.of(id)
	bit := uint64(1) << (attempt & 63)
	if o.seen&bit != 0 {
		t.counts.Repeated++
		return
	}
	o.seen |= bit
	if attempt > 1 {
		o.change(attempt, func(r *redelivery) { r.reached = at })
	}
}

// accepted records that the target accepted a webhook with this payload, and whether it answers
// in time.
func (t *tally) accepted(id string, payload hash, inTime bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.of(id)
	o.accepted = append(o.accepted, payload)
	if inTime {
		o.inTime++
	}
}

// taken records that a webhook's first delivery succeeded, so that it never becomes an operation.
func (t *tally) taken(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts.First++
	delete(t.operations, id)
}

// submit records that an operation is about to be submitted.
func (t *tally) submit(id, event string, payload hash) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.of(id)
	o.event, o.submitted, o.payload, o.attempt = event, true, payload, 1
	t.waiting[id] = o
	t.counts.Submitted++
}

// scheduled records a decision.
func (t *tally) scheduled(e events.Scheduled) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.of(e.ID)
	t.progress(o, e.Attempt)
	o.change(e.Attempt+1, func(r *redelivery) { r.planned = e.Due })
}

// due records when an attempt is due by the stored state of its operation.
func (t *tally) due(id string, attempt int, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.of(id).change(attempt, func(r *redelivery) { r.due = at })
}

// ended records an outcome.
func (t *tally) ended(e events.Outcome) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.of(e.ID)
	if o.outcomes++; o.outcomes > 1 {
		return
	}
	t.progress(o, e.Attempts)
	t.attempts = append(t.attempts, e.Attempts)
	if e.Outcome == events.RetrySuccess {
		t.counts.Success++
		t.successes = append(t.successes, events.Milliseconds(e.ElapsedMs))
	} else {
		t.counts.Failed++
		t.counts.Reasons[e.Reason]++
	}
	delete(t.waiting, e.ID)
	if len(t.attempts) == t.goal {
		close(t.done)
	}
}

// progress counts the redeliveries up to an attempt.
func (t *tally) progress(o *operation, attempt int) {
	if o.attempt == 0 {
		o.attempt = 1
	}
	if attempt > o.attempt {
		t.counts.Redeliveries += attempt - o.attempt
		o.attempt = attempt
	}
}

// change changes what is known of an attempt after the first.
func (o *operation) change(attempt int, with func(*redelivery)) {
	if o.redeliveries == nil {
		o.redeliveries = make(map[int]redelivery)
	}
	r := o.redeliveries[attempt]
	with(&r)
	o.redeliveries[attempt] = r
}

// snapshot returns the counts at a time.
func (t *tally) snapshot(now time.Time) counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.counts
	c.Reasons = maps.Clone(c.Reasons)
	c.Open = len(t.waiting)
	for _, o := range t.waiting {
		next := o.redeliveries[o.attempt+1].planned
		if next.After(now) && (c.NextDue.IsZero() || next.Before(c.NextDue)) {
			c.NextDue = next
		}
	}
	return c
}

// evidence returns the tally's evidence for each submitted operation.
func (t *tally) evidence() map[string]*evidence {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make(map[string]*evidence, len(t.operations))
	for id, o := range t.operations {
		if o.submitted {
			out[id] = &evidence{Submitted: true, Payload: o.payload, Accepted: slices.Clone(o.accepted)}
		}
	}
	return out
}

// summarise writes the statistics to s.
func (t *tally) summarise(s *Summary) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.counts
	s.FirstTry, s.Submitted, s.RetrySuccess, s.RetryFailed = c.First, c.Submitted, c.Success, c.Failed
	s.Redeliveries, s.RepeatedAttempts = c.Redeliveries, c.Repeated
	s.RetryFailedBy = maps.Clone(c.Reasons)
	if len(t.attempts) > 0 {
		slices.Sort(t.attempts)
		s.Attempts = Range{t.attempts[0], t.attempts[len(t.attempts)/2], t.attempts[len(t.attempts)-1]}
	}
	s.TimeToSuccess = distribution(t.successes)
	var lateness []time.Duration
	for _, o := range t.operations {
		for _, r := range o.redeliveries {
			late, known := r.lateness()
			if !known {
				continue
			}
			lateness = append(lateness, late)
			if late < 0 {
				s.Early++
			}
			if r.released() {
				s.ReleasedEarly++
			}
		}
		if o.submitted && len(o.accepted) > 1 {
			s.Duplicates++
		}
		if o.submitted && o.inTime > 1 {
			s.NeedlessDuplicates++
		}
	}
	s.Lateness = distribution(lateness)
}

// distribution returns percentiles by nearest rank. It sorts its argument.
func distribution(of []time.Duration) Distribution {
	if len(of) == 0 {
		return Distribution{}
	}
	slices.Sort(of)
	rank := func(percent int) float64 { return events.InMilliseconds(of[(len(of)*percent+99)/100-1]) }
	return Distribution{P50: rank(50), P99: rank(99), Max: rank(100)}
}
