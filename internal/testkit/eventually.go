package testkit

import (
	"testing"
	"time"
)

const (
	// pollInterval is how often [Eventually] looks.
	pollInterval = 5 * time.Millisecond
	// busyFactor is how many times the bound [Eventually] waits at most on a machine
	// that is busy.
	busyFactor = 5
)

// Eventually waits until cond is true, looking at once and then every 5 ms. The
// test fails at the end of within; what names the awaited thing in the message,
// such as "the operation is parked". The bound guards against a hang: on a machine
// that is too busy to look every 5 ms it is as much longer as the looks take, five
// times at the most. It must be called on the test's own goroutine, where cond runs
// too.
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
