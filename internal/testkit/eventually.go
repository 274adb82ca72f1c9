package testkit

import (
	"testing"
	"time"
)

// pollInterval is how often [Eventually] looks.
const pollInterval = 5 * time.Millisecond

// Eventually waits until cond is true, looking at once and then every 5 ms. The
// test fails at the end of within; what names the awaited thing in the message,
// such as "the operation is parked". It must be called on the test's own
// goroutine, where cond runs too.
func Eventually(t testing.TB, within time.Duration, what string, cond func() bool) {
	t.Helper()
	if cond() {
		return
	}
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if cond() {
				return
			}
		case <-deadline.C:
			if cond() {
				return
			}
			t.Fatalf("not within %v: %s", within, what)
			return
		}
	}
}
