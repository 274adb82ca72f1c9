package testkit

import (
	"testing"
	"time"
)

const (
	// pollInterval is how often [Eventually] checks.
	pollInterval = 5 * time.Millisecond
	// busyFactor bounds the wait of [Eventually] on a busy machine, as a multiple of its bound.
	busyFactor = 5
)

// Eventually waits until cond is true, checking at once and then every 5 ms. The test fails after
// within; what names the awaited condition in the message, such as "the operation is parked". The
// bound only guards against a hang: on a machine too busy to check every 5 ms it is extended
// accordingly, to at most five times. Eventually must be called on the test's goroutine, where
// cond runs as well.
func Eventually(t testing.TB, within time.Duration, what string, cond func() bool) {
	t.Helper()
	if cond() {
		return
	}
	began := time.Now()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for looked := pollInterval; ; looked += pollInterval {
		<-tick.C
		if cond() {
			return
		}
		elapsed := time.Since(began)
		if elapsed >= within && (looked >= within || elapsed >= busyFactor*within) {
			t.Fatalf("not within %v: %s", within, what)
			return
		}
	}
}
