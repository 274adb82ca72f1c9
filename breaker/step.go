package breaker

import (
	"cmp"
	"slices"
	"time"
)

// Step is the state machine: it applies e to c at now and returns the resulting circuit and the
// effect. It is pure and never modifies what c refers to. If nothing was written it returns c
// itself. The step.lua of redisstore is the same function for Redis, and a test compares the two.
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

// step is a step in progress.
type step struct {
	Circuit
	e      Event
	now    time.Time
	s      Settings
	effect Effect
}

func (t *step) report() {
	r := &t.e.Tally
	switch {
	case r.empty():
		return
	case t.e.Generation != t.Generation:
		t.count(r)
	default:
		t.Window = slices.Clone(t.Window)
		t.openFor(t.add(r, t.now, &t.s))
	}
	t.effect.Written = true
}

// openFor opens the circuit after failures, unless cause is empty.
func (t *step) openFor(cause Cause) {
	if cause != "" {
		t.open(cause, t.s.Timeout)
		t.Operated = Operated{}
	}
}

// openInPlace opens c after results that an instance has added to it. c must share nothing with
// others, and s be the result of [Settings.OrDefaults].
func (c *Circuit) openInPlace(cause Cause, by string, now time.Time, s *Settings) Effect {
	t := step{Circuit: *c, e: Event{By: by}, now: now, s: *s, effect: Effect{From: c.State, Written: true}}
	t.openFor(cause)
	*c = t.Circuit
	return t.effect
}

// add counts results of c's own generation in place. It returns why they open the circuit, empty
// if they do not.
func (c *Circuit) add(r *Tally, now time.Time, s *Settings) Cause {
	c.count(r, now)
	if c.State != Closed {
		return ""
	}
	peak := c.run(r)
	c.observe(r, now, s)
	switch {
	case peak >= s.Threshold:
		return CauseFailures
	case r.Failures > 0 && c.tooManyFail(s):
		return CauseFailureRate
	}
	return ""
}

// run updates the failures in a row and returns their maximum during the tally.
func (c *Circuit) run(r *Tally) int {
	peak := max(c.FailureCount+r.Leading, r.Longest)
	if r.Successes == 0 {
		c.FailureCount += r.Failures
	} else {
		c.FailureCount = r.Trailing
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
	r.Add(t.e.Attempt(), true)
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
			t.Operated = Operated{}
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
	t.open(CauseTripped, min(d, LongestTrip))
	t.operated()
}

func (t *step) hold() {
	t.open(CauseHeld, 0)
	t.Held, t.NextAttemptTime = true, time.Time{}
	t.operated()
}

func (t *step) reset() {
	t.close(CauseReset)
	t.operated()
}

// operated records who made the change, and why.
func (t *step) operated() {
	t.Note = t.e.Note
	t.Operated = Operated{Action: t.Cause, By: t.e.Operator, Note: t.e.Note, At: t.now}
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
	switch {
	case to == Closed:
		t.OutageSince = time.Time{}
	case t.OutageSince.IsZero():
		t.OutageSince = t.now
	}
	t.effect.Written, t.effect.Changed = true, true
}

// count adds every result to the totals.
func (t *step) count(r *Tally) {
	t.Circuit.count(r, t.now)
	t.effect.Written = true
}

func (c *Circuit) count(r *Tally, now time.Time) {
	c.TotalRequests += uint64(r.Requests)
	c.TotalFailures += uint64(r.AllFailures)
	if n := float64(r.Requests); n > 0 {
		span := max(n, min(float64(c.TotalRequests), averageSpan))
		c.AverageResponseTime += (inMillis(r.ResponseTime) - n*c.AverageResponseTime) / span
	}
	if r.AllFailures > 0 {
		c.LastFailureTime = now
		c.LastError = cmp.Or(r.Error, c.LastError)
	}
}

// averageSpan is roughly the number of results that the average response time covers.
const averageSpan = 100

func inMillis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// expire removes the probes whose lease has ended. A probe of an earlier generation stays until
// then, because it is still in flight.
func (t *step) expire() {
	t.Probes = slices.DeleteFunc(t.Probes, func(p Probe) bool { return !p.Expires.After(t.now) })
}

// windowBuckets is the number of buckets of a window.
const windowBuckets = 10

// observe counts results in the window in place, if the failure rate is used.
func (c *Circuit) observe(r *Tally, now time.Time, s *Settings) {
	if s.FailureRate == 0 {
		c.Window = nil
		return
	}
	width := bucketWidth(s.Window)
	start := bucketStart(now, width)
	oldest := start.Add(-(windowBuckets - 1) * width)
	c.Window = slices.DeleteFunc(c.Window, func(b Bucket) bool { return b.Start.Before(oldest) })
	// In the same bucket, or after the clock went backwards, the last bucket goes on.
	if n := len(c.Window); n == 0 || start.After(c.Window[n-1].Start) {
		c.Window = append(c.Window, Bucket{Start: start})
	}
	c.Window = slices.Delete(c.Window, 0, max(len(c.Window)-windowBuckets, 0))
	last := &c.Window[len(c.Window)-1]
	last.Successes += r.Successes
	last.Failures += r.Failures
}

// tooManyFail reports whether the failure rate opens the breaker.
func (c *Circuit) tooManyFail(s *Settings) bool {
	if s.FailureRate == 0 {
		return false
	}
	calls, failures := 0, 0
	for i := range c.Window {
		b := &c.Window[i]
		calls += b.Successes + b.Failures
		failures += b.Failures
	}
	return calls >= s.MinimumCalls && float64(failures) >= s.FailureRate*float64(calls)
}

// bucketStart returns when the bucket of now begins: at a whole multiple of its width since 1970,
// so that all instances have the same buckets.
func bucketStart(now time.Time, width time.Duration) time.Time {
	ms := now.UnixMilli()
	return time.UnixMilli(ms - ms%width.Milliseconds())
}

// bucketWidth is a tenth of the window, in whole milliseconds.
func bucketWidth(window time.Duration) time.Duration {
	return max((window / windowBuckets).Truncate(time.Millisecond), time.Millisecond)
}
