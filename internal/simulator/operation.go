package simulator

import (
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// operation is an operation whose first try failed.
type operation struct {
	service  string
	kind     string // its operation type
	priority events.Priority
	// attempts counts the attempts so far, including the first try.
	attempts int
	// first is when the first try failed, and previous the last delay.
	first    time.Time
	previous time.Duration
	// spared is the time before which the target asked for no attempt.
	spared time.Time
	// due is when it was, or will be, due.
	due time.Time
	// wait counts how often it was parked, so that a due time overtaken by an early release is
	// recognised.
	wait          int
	ended, gaveUp bool
}

// input returns what a policy decides by after a failed attempt.
func (op *operation) input(a answer, s policy.Signals, now time.Time) policy.Input {
	return policy.Input{
		Attempt: op.attempts, Previous: op.previous, Now: now, ElapsesFrom: op.first,
		Failure: a.failure, Service: op.service, Priority: op.priority, Signals: s,
	}
}
