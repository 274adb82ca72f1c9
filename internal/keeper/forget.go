package keeper

import (
	"context"
	"runtime/debug"
	"time"
)

const (
	// forgetEvery bounds how often what is idle is looked for.
	forgetEvery = time.Minute
	// manyForgotten is how many gates and breakers take so much memory that it is worth
	// returning.
	manyForgotten = 1000
)

// Forgetter has the keys forgotten that are not used. Whoever may submit can invent
// keys, so that what is kept of each must not stay for good.
type Forgetter struct {
	after  time.Duration
	forget func(since, now time.Time) int
}

// NewForgetter returns what calls forget with the time since which a key must have been
// idle for as long as after. It returns how many gates and breakers it dropped.
func NewForgetter(after time.Duration, forget func(since, now time.Time) int) *Forgetter {
	return &Forgetter{after: after, forget: forget}
}

// Run forgets until ctx ends.
func (f *Forgetter) Run(ctx context.Context) {
	ticker := time.NewTicker(min(f.after/4, forgetEvery))
	defer ticker.Stop()
	kept := 0 // gates and breakers whose memory was not returned yet
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			kept = returnMemory(kept + f.forget(now.Add(-f.after), now))
		}
	}
}

// returnMemory gives the system back what was allocated for keys once many were forgotten,
// and returns how many there are whose memory was not returned. An instance whose keys are
// gone allocates so little that its next collection may be minutes away, and what that
// frees stays with the process for longer still. It takes a collection, on the goroutine
// that forgets and nothing else.
func returnMemory(forgotten int) int {
	if forgotten < manyForgotten {
		return forgotten
	}
	debug.FreeOSMemory()
	return 0
}
