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
		t.Operated = Operated{}
	case r.Failures > 0 && t.tooManyFail():
		t.open(CauseFailureRate, t.s.Timeout)
		t.Operated = Operated{}
	}
}

// run updates the failures in a row and returns their maximum during the tally.
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
	t.TotalRequests += uint64(r.Requests)
	t.TotalFailures += uint64(r.AllFailures)
	if n := float64(r.Requests); n > 0 {
		span := max(n, min(float64(t.TotalRequests), averageSpan))
		t.AverageResponseTime += (inMillis(r.ResponseTime) - n*t.AverageResponseTime) / span
	}
	if r.AllFailures > 0 {
		t.LastFailureTime = t.now
		t.LastError = cmp.Or(r.Error, t.LastError)
	}
	t.effect.Written = true
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

// observe counts results in the window, if the failure rate is used.
func (t *step) observe(successes, failures int) {
	if t.s.FailureRate == 0 {
		t.Window = nil
		return
	}
	t.Window = append(recent(t.Window, t.now, t.s.Window), Bucket{Start: bucketStart(t.now, t.s.Window)})
	// In the same bucket, or after the clock went backwards, the last bucket goes on.
	if n := len(t.Window); n > 1 && !t.Window[n-1].Start.After(t.Window[n-2].Start) {
		t.Window = t.Window[:n-1]
	}
	if n := len(t.Window); n > windowBuckets {
		t.Window = t.Window[n-windowBuckets:]
	}
	last := &t.Window[len(t.Window)-1]
	last.Successes += successes
	last.Failures += failures
}

// tooManyFail reports whether the failure rate opens the breaker.
func (t *step) tooManyFail() bool {
	if t.s.FailureRate == 0 {
		return false
	}
	calls, failures := 0, 0
	for _, b := range t.Window {
		calls += b.Successes + b.Failures
		failures += b.Failures
	}
	return calls >= t.s.MinimumCalls && float64(failures) >= t.s.FailureRate*float64(calls)
}

// recent returns a copy of the buckets that began within the window before now.
func recent(buckets []Bucket, now time.Time, window time.Duration) []Bucket {
	oldest := bucketStart(now, window).Add(-(windowBuckets - 1) * bucketWidth(window))
	return slices.DeleteFunc(slices.Clone(buckets), func(b Bucket) bool { return b.Start.Before(oldest) })
}

// bucketStart returns when the bucket of now begins: at a whole multiple of its width since 1970,
// so that all instances have the same buckets.
func bucketStart(now time.Time, window time.Duration) time.Time {
	width := bucketWidth(window).Milliseconds()
	ms := now.UnixMilli()
	return time.UnixMilli(ms - ms%width)
}

// bucketWidth is a tenth of the window, in whole milliseconds.
func bucketWidth(window time.Duration) time.Duration {
	return max((window / windowBuckets).Truncate(time.Millisecond), time.Millisecond)
}
