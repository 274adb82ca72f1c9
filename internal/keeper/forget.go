package keeper

import (
	"context"
	"runtime/debug"
	"time"
)

const (
	// forgetEvery is how often idle keys are looked for at most.
	forgetEvery = time.Minute
	// manyForgotten is how many gates and breakers take enough memory to be worth
	// returning.
	manyForgotten = 1000
)

// Forgetter drops unused keys. Anyone who may submit can invent keys, so nothing of a key
// may be kept for good.
type Forgetter struct {
	after  time.Duration
	forget func(since, now time.Time) int
}

// NewForgetter returns a forgetter of keys that are idle for longer than after. It calls
// forget to drop keys not used since a time; forget returns how many gates and breakers it
// dropped.
func NewForgetter(after time.Duration, forget func(since, now time.Time) int) *Forgetter {
	return &Forgetter{after: after, forget: forget}
}

// Run forgets until ctx ends.
func (f *Forgetter) Run(ctx context.Context) {
	ticker := time.NewTicker(min(f.after/4, forgetEvery))
	defer ticker.Stop()
	kept := 0 // forgotten gates and breakers whose memory was not returned yet
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			kept = returnMemory(kept + f.forget(now.Add(-f.after), now))
		}
	}
}

// returnMemory returns the memory of keys to the system once many were forgotten. It
// returns how many have not been covered yet. An instance whose keys are gone allocates so
// little that its next garbage collection may be minutes away, and the process keeps what
// that frees for longer still. It costs a collection, on a goroutine that does nothing else.
func returnMemory(forgotten int) int {
	if forgotten < manyForgotten {
		return forgotten
	}
	debug.FreeOSMemory()
	return 0
}
