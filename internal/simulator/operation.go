package simulator

import (
	"time"

	"github.com/rebound-mq/rebound/events"
)

// operation is an operation whose first try failed.
type operation struct {
	kind     string // its operation type
	priority events.Priority
	// attempts counts the attempts so far, including the first try.
	attempts int
	// first is when the first try failed, and previous the last delay.
	first    time.Time
	previous time.Duration
	// spared is the time before which the target asked for no attempt.
	spared time.Time
	// wait counts how often it was parked, so that a due time overtaken by an early release is
	// recognised.
	wait  int
	ended bool
}
