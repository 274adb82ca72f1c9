package gate

import "time"

// Exposure bounds how many attempts are exposed to a target that may be dead, before its
// breaker can open: whatever is in flight when it falls ill fails, so the faster operations
// go, the more of them fail in vain. It applies to keys that have a breaker, while that is
// closed.
//
//	                       a failure                      as many failures in a row
//	sound: no bound ─────────────────────▶ failing: as many attempts ──────────────▶ doomed: one at a time,
//	   ▲                                   as would open the breaker                doomedPause apart, until
//	   │                                       │ nothing heard for a minute         the breaker opens
//	   │ any answer that is                    ▼
//	   └── no failure ◀──────────────── unknown: firstExposed over all instances
//
// The bound counts only the attempts that began in the present state, so what a sound target
// still has to answer when one attempt fails takes no place from others. While nothing is
// heard the bound doubles each doubleEvery, so that a target that takes long to answer is
// not kept waiting. So a target that answers within doubleEvery and is dead gets, of each
// instance, at most
//
//	what was in flight at its first failure + threshold - 1 + one per doomedPause
//
// attempts, and if nothing was known of it, at most a share of firstExposed was in flight.
// Nothing bounds how many attempts hang until their timeout.
//
// The zero value knows nothing of the target.
type Exposure struct {
	failures int    // in a row
	exposed  int    // attempts in flight that began in the present span
	span     uint32 // counts the spans: one begins with each answer that is no failure, and with the first failure after it
	heard    int64  // when the last attempt ended, Unix nanoseconds; 0 is never
	quiet    int64  // since when nothing was heard of the exposed attempts, Unix nanoseconds
	began    int64  // when an attempt began last, Unix nanoseconds
}

const (
	// firstExposed is how many attempts may be in flight over all instances at a target of
	// which nothing was heard for a minute. What comes here has failed elsewhere before.
	firstExposed = 48
	// doubleEvery is longer than answers of most targets take, on a busy machine too.
	doubleEvery = time.Second
	// mostDoublings keeps the bound within an int.
	mostDoublings = 20
	// doomedPause is longer than stores of breakers take to agree that one opens.
	doomedPause = 100 * time.Millisecond
)

// Available returns how many attempts may go at now beside those in flight at this one of
// so many instances, and, when that is 0, when there will be more; a zero next is not
// before one of those in flight is done. limited is false while the target is sound.
func (e *Exposure) Available(s *Settings, instances int, now time.Time) (n int, next time.Time, limited bool) {
	opens := s.opensAfter()
	t := now.UnixNano()
	if opens == 0 || e.failures == 0 && e.known(t) {
		return 0, time.Time{}, false
	}
	// The clock may have been set back.
	e.quiet, e.began, e.heard = min(e.quiet, t), min(e.began, t), min(e.heard, t)
	switch {
	case !e.known(t):
		n, next = e.doubling(max(firstExposed/max(instances, 1), opens), t)
	case e.failures < s.BreakerThreshold:
		n, next = e.doubling(max(opens-e.failures, 1), t)
	case e.exposed > 0: // its answer may open the breaker
	case t-e.began < int64(doomedPause):
		next = time.Unix(0, e.began+int64(doomedPause))
	default:
		n = 1
	}
	return n, next, true
}

// doubling returns how many attempts may go if at first so many may be exposed.
func (e *Exposure) doubling(first int, t int64) (n int, next time.Time) {
	if e.exposed < first {
		return first - e.exposed, time.Time{}
	}
	doublings := min((t-e.quiet)/int64(doubleEvery), mostDoublings)
	if n = first<<doublings - e.exposed; n > 0 {
		return n, time.Time{}
	}
	return 0, time.Unix(0, e.quiet+(doublings+1)*int64(doubleEvery))
}

// known reports whether the last result still says something of the target.
func (e *Exposure) known(t int64) bool { return e.heard != 0 && t-e.heard < int64(recentFor) }

// Take records that an attempt begins and returns the span to pass to [Exposure.Done].
func (e *Exposure) Take(now time.Time) (span uint32) {
	e.began = now.UnixNano()
	if e.exposed == 0 {
		e.quiet = e.began
	}
	e.exposed++
	return e.span
}

// Done records how an attempt of a span ended.
func (e *Exposure) Done(span uint32, r Result, now time.Time) {
	if span == e.span {
		e.exposed--
	}
	e.Conclude(r, now)
}

// Conclude records the result of an attempt that is not in flight any more.
func (e *Exposure) Conclude(r Result, now time.Time) {
	t := now.UnixNano()
	switch {
	case r == Unused:
		return
	case r != Failure:
		e.begin(0)
	case e.failures == 0 || !e.known(t):
		e.begin(1)
	default:
		e.failures++
	}
	e.heard, e.quiet = t, t
}

// Recover forgets the failures, because the breaker has closed again.
func (e *Exposure) Recover(now time.Time) {
	e.begin(0)
	e.heard = now.UnixNano()
}

// begin begins a span.
func (e *Exposure) begin(failures int) {
	e.failures, e.exposed = failures, 0
	e.span++
}

// opensAfter returns how many failures in a row open the breaker of a target of which nothing
// else is known; 0 without a breaker.
func (s *Settings) opensAfter() int {
	if s.BreakerMinimumCalls > 0 {
		return min(s.BreakerThreshold, s.BreakerMinimumCalls)
	}
	return s.BreakerThreshold
}
