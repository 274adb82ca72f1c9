package handlers

import (
	"context"
	"runtime/debug"
	"time"
)

const (
	// DefaultForgetIdleAfter is how long a key is remembered that is not used.
	DefaultForgetIdleAfter = time.Hour
	// forgetEvery bounds how often what is idle is looked for.
	forgetEvery = time.Minute
	// manyForgotten is how many gates and breakers take so much memory that it is worth
	// returning.
	manyForgotten = 1000
)

// forgetIdle forgets what was not used for a while, until ctx ends. Whoever may
// submit can invent keys, so that what is kept of each must not stay for good.
func (s *Service) forgetIdle(ctx context.Context) {
	every := min(s.config.ForgetIdleAfter/4, forgetEvery)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	kept := 0 // gates and breakers whose memory was not returned yet
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			kept = returnMemory(kept + s.forget(now.Add(-s.config.ForgetIdleAfter), now))
		}
	}
}

// forget drops what was not used since a time, and returns how many gates and breakers.
// What the stores hold of it is found again when the key comes back, and expires there.
func (s *Service) forget(since, now time.Time) int {
	gates := s.gates.Forget(since, now)
	breakers := s.breakers.group.Forget(since)
	s.registry.Forget(since, now)
	s.metrics.Forget(since, func(service string) bool {
		_, ok := s.registry.Metrics(service, now)
		return ok
	})
	if gates+breakers > 0 {
		s.log.Debug("keys that were not used are forgotten", "gates", gates, "breakers", breakers)
	}
	return gates + breakers
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
