package testkit

import (
	"testing"
	"time"
)

// tries is how often [Quick] measures at most.
const tries = 10

// Quick measures how long something takes, and fails the test when it is longer than
// a bound each time. A machine that does something else makes one try slow or a few;
// what is slow by itself is so at every try.
func Quick(t testing.TB, bound time.Duration, what string, measure func() time.Duration) {
	t.Helper()
	best := measure()
	for try := 1; best > bound && try < tries && !t.Failed(); try++ {
		best = min(best, measure())
	}
	if best > bound {
		t.Errorf("%s took %v at best, want %v", what, best, bound)
	}
}
