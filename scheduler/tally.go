package scheduler

import (
	"sync"
	"time"

	"github.com/rebound-mq/rebound/scheduler/gate"
)

// tally counts the attempts of the last minute, second by second. It is safe for
// concurrent use.
type tally struct {
	mu      sync.Mutex // guards what follows
	seconds [60]struct {
		at                int64 // in Unix seconds
		succeeded, failed int
	}
}

// add counts an attempt that speaks of its target's health.
func (t *tally) add(r gate.Result, now time.Time) {
	if r != gate.Success && r != gate.Failure {
		return
	}
	at := now.Unix()
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &t.seconds[uint64(at)%uint64(len(t.seconds))]
	if s.at != at {
		s.at, s.succeeded, s.failed = at, 0, 0
	}
	if r == gate.Success {
		s.succeeded++
	} else {
		s.failed++
	}
}

// last returns what was counted in the last minute.
func (t *tally) last(now time.Time) (succeeded, failed int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.seconds {
		if age := now.Unix() - s.at; age >= 0 && age < int64(len(t.seconds)) {
			succeeded += s.succeeded
			failed += s.failed
		}
	}
	return succeeded, failed
}
