package gate

import (
	"math/bits"
	"time"
)

// Trickle lets one attempt of a failing key go after a pause each, so that the end of its
// failures is noticed. The zero value is ready.
type Trickle struct {
	theoreticalArrival time.Time // of the next attempt (GCRA)
}

// trickleBurst is how many attempts may go at once after a while without: operations that
// one instance lets out may arrive at another in a bunch.
const trickleBurst = 2

// Available returns how many attempts may go with a pause between each, and, when that is
// 0, when the next may.
func (t *Trickle) Available(pause time.Duration, now time.Time) (n int, next time.Time) {
	ahead := max(t.theoreticalArrival.Sub(now), 0)
	if n = int((trickleBurst*pause - ahead) / pause); n > 0 {
		return n, time.Time{}
	}
	return 0, t.theoreticalArrival.Add(-(trickleBurst - 1) * pause)
}

// Take counts an attempt.
func (t *Trickle) Take(pause time.Duration, now time.Time) {
	if t.theoreticalArrival.Before(now) {
		t.theoreticalArrival = now
	}
	t.theoreticalArrival = t.theoreticalArrival.Add(pause)
}

// recent remembers how the last attempts of a key ended, to tell a key that fails from one
// that succeeds. The zero value knows of none.
type recent struct {
	failed uint32 // one bit for each result, the latest lowest
	known  int    // how many bits are results
	at     time.Time
}

const (
	// A key fails when at least four of five of its last results are failures, of which
	// there must be leastResults. Two successes in a row end it.
	mostResults    = 32
	leastResults   = 4
	endedBy        = 0b11
	failingOf      = 5
	failingAtLeast = 4
	// recentFor is how long results count. It is longer than most attempts take.
	recentFor = time.Minute
)

// add records a result that says something of the target's health.
func (k *recent) add(r Result, now time.Time) {
	switch r {
	case Success:
		k.failed <<= 1
	case Failure:
		k.failed = k.failed<<1 | 1
	case Throttled, Ignored, Unused:
		return
	}
	k.known, k.at = min(k.known+1, mostResults), now
}

// failing reports whether the key fails.
func (k *recent) failing(now time.Time) bool {
	return k.known >= leastResults && now.Sub(k.at) < recentFor && k.failed&endedBy != 0 &&
		failingOf*bits.OnesCount32(k.failed) >= failingAtLeast*k.known
}
