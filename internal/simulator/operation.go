package simulator

import (
	"time"

	"github.com/rebound-mq/rebound/events"
)

// operation is one that failed at its first try.
type operation struct {
	kind     string // its operation type
	priority events.Priority
	// attempts made so far, the first try included.
	attempts int
	// first is when the first try failed, and previous the last delay.
	first    time.Time
	previous time.Duration
	// spared is until when the target asked to be left alone.
	spared time.Time
	// wait counts the times it was parked, so that a due time that was overtaken
	// by an early release is recognised.
	wait  int
	ended bool
}
