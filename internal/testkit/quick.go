package testkit

import (
	"testing"
	"time"
)

// tries bounds how often [Quick] measures.
const tries = 10

// Quick measures how long something takes, and fails the test if every measurement exceeds a
// bound. A busy machine makes some tries slow; something that is slow by itself is slow at every
// try.
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
