package breaker

import (
	"slices"
	"time"
)

// windowBuckets is how many buckets a window has.
const windowBuckets = 10

// observe counts results in the window, when the failure rate counts at all.
func (t *step) observe(successes, failures int) {
	if t.s.FailureRate == 0 {
		t.Window = nil
		return
	}
	t.Window = append(recent(t.Window, t.now, t.s.Window), Bucket{Start: bucketStart(t.now, t.s.Window)})
	// When a clock goes backwards, or in the same bucket, the last one goes on.
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

// bucketStart is where the bucket of now begins: at a whole multiple of its
// width since 1970, so that all instances have the same buckets.
func bucketStart(now time.Time, window time.Duration) time.Time {
	width := bucketWidth(window).Milliseconds()
	ms := now.UnixMilli()
	return time.UnixMilli(ms - ms%width)
}

// bucketWidth is a tenth of the window, in whole milliseconds.
func bucketWidth(window time.Duration) time.Duration {
	return max((window / windowBuckets).Truncate(time.Millisecond), time.Millisecond)
}
