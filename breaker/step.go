package breaker

import (
	"slices"
	"time"
)

// Step is the state machine: it applies e to c at now and returns the circuit
// that follows and what else came of it. It is pure, and never changes what c
// refers to. When nothing was written it returns c as it is. step.lua is the same
// function for Redis, and a test compares the two.
//
//	         failures in a row, failure rate, Trip, Hold
//	CLOSED ───────────────────────────────────────────────▶ OPEN ◀─┐
//	   ▲                                                     │     │ a probe fails,
//	   │ probes succeed,                  timeout is over,   │     │ Trip, Hold
//	   │ Reset (also from OPEN)           Acquire            ▼     │
//	   └────────────────────────────────────────────── HALF_OPEN ──┘
func Step(c Circuit, e Event, now time.Time, s Settings) (Circuit, Effect) {
	t := step{Circuit: c, e: e, now: now, s: s.OrDefaults()}
	t.Probes = slices.Clone(c.Probes)
	t.effect.From = c.State
	switch e.Kind {
	case Report:
		t.report()
	case Acquire:
		t.acquire()
	case Return:
		t.giveBack()
	case Trip:
		t.trip()
	case Hold:
		t.hold()
	case Reset:
		t.reset()
	case Rejoin:
		t.rejoin()
	}
	if !t.effect.Written {
		return c, t.effect
	}
	return t.Circuit, t.effect
}

// step is one step under way.
type step struct {
	Circuit
	e      Event
	now    time.Time
	s      Settings
	effect Effect
}

func (t *step) report() {
	r := &t.e.Tally
	if r.empty() {
		return
	}
	t.count(r)
	if t.e.Generation != t.Generation || t.State != Closed {
		return
	}
	peak := t.run(r)
	t.observe(r.Successes, r.Failures)
	switch {
	case peak >= t.s.Threshold:
		t.open(CauseFailures, t.s.Timeout)
	case r.Failures > 0 && t.tooManyFail():
		t.open(CauseFailureRate, t.s.Timeout)
	}
}

// run brings the failures in a row up to date and returns the most of them that
// there were.
func (t *step) run(r *Tally) int {
	peak := max(t.FailureCount+r.Leading, r.Longest)
	if r.Successes == 0 {
		t.FailureCount += r.Failures
	} else {
		t.FailureCount = r.Trailing
	}
	return peak
}

func (t *step) acquire() {
	n, next := t.Ready(t.now, &t.s)
	if n == 0 {
		t.effect.Next = next
		return
	}
	t.effect.Granted = true
	if t.State == Closed {
		return
	}
	if t.State == Open {
		t.change(HalfOpen, CauseTimeout)
	}
	t.expire()
	t.Probes = append(t.Probes, Probe{ID: t.e.Probe, Expires: t.now.Add(t.s.ProbeLease)})
	t.HalfOpenAttempts++
	t.effect.Probe = t.e.Probe
	t.effect.Written = true
}

func (t *step) giveBack() {
	t.expire()
	known := slices.ContainsFunc(t.Probes, func(p Probe) bool { return p.ID == t.e.Probe })
	t.Probes = slices.DeleteFunc(t.Probes, func(p Probe) bool { return p.ID == t.e.Probe })
	t.effect.Written = known
	var r Tally
	r.Add(t.e.Result, t.e.Took, true)
	if !r.empty() {
		t.count(&r)
	}
	if !known || t.e.Generation != t.Generation || t.State != HalfOpen {
		return
	}
	switch t.e.Result {
	case Success:
		t.HalfOpenSuccesses++
		if t.HalfOpenSuccesses >= t.s.HalfOpenSuccesses {
			t.close(CauseProbesSucceeded)
		}
	case Failure:
		t.FailureCount++
		t.open(CauseProbeFailed, t.s.Timeout)
	case Ignored, Unused:
	}
}

func (t *step) trip() {
	if t.Held {
		return
	}
	d := t.e.For
	if d <= 0 {
		d = t.s.Timeout
	}
	t.open(CauseTripped, min(d, HeldTTL))
	t.Note = t.e.Note
}

func (t *step) hold() {
	t.open(CauseHeld, 0)
	t.Held, t.NextAttemptTime, t.Note = true, time.Time{}, t.e.Note
}

func (t *step) reset() {
	t.close(CauseReset)
	t.Note = t.e.Note
}

func (t *step) open(cause Cause, d time.Duration) {
	t.change(Open, cause)
	t.NextAttemptTime = t.now.Add(d)
	t.HalfOpenAttempts = 0
}

func (t *step) close(cause Cause) {
	t.change(Closed, cause)
	t.FailureCount, t.HalfOpenAttempts, t.Window = 0, 0, nil
}

func (t *step) change(to State, cause Cause) {
	t.State, t.Held, t.NextAttemptTime = to, false, time.Time{}
	t.Generation++
	t.Cause, t.Note, t.ChangedAt, t.ChangedBy = cause, "", t.now, t.e.By
	t.HalfOpenSuccesses = 0
	t.effect.Written, t.effect.Changed = true, true
}

// count adds to the totals, which every result enters.
func (t *step) count(r *Tally) {
	t.TotalRequests += uint64(r.Requests)
	t.TotalFailures += uint64(r.AllFailures)
	if n := float64(r.Requests); n > 0 {
		span := max(n, min(float64(t.TotalRequests), averageSpan))
		t.AverageResponseTime += (inMillis(r.ResponseTime) - n*t.AverageResponseTime) / span
	}
	if r.AllFailures > 0 {
		t.LastFailureTime = t.now
	}
	t.effect.Written = true
}

// averageSpan is over about how many results the response time is averaged.
const averageSpan = 100

func inMillis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// expire gives back the probes whose lease is over. A probe that belongs to an
// earlier generation stays until then, because it is in flight nevertheless.
func (t *step) expire() {
	t.Probes = slices.DeleteFunc(t.Probes, func(p Probe) bool { return !p.Expires.After(t.now) })
}
