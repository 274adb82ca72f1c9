package events

import (
	"time"
)

// TypeFailed is the CloudEvents type of a submitted operation.
const TypeFailed = "rebound.operation.failed.v1"

// Bounds of the attributes of a submission, in bytes.
const (
	MaxAttribute = 1024
	// MaxMessage bounds the attribute errormessage, which is then clipped to [MaxError].
	MaxMessage = 8192
	// MaxHeaders bounds all headers of a submission together, so that they and the operation's
	// state fit into the 64 KiB of headers that JetStream stores.
	MaxHeaders = 16 << 10
)

// RejectedError means that a submission is not acceptable. It contains every problem found.
type RejectedError struct {
	// Service and Operation are [Invalid] if they could not be read.
	Service, Operation string
	Problem            error
}

// Error implements error.
func (e *RejectedError) Error() string { return "rejected: " + e.Problem.Error() }

// Unwrap returns Problem.
func (e *RejectedError) Unwrap() error { return e.Problem }

// InUTC converts a time to UTC. A year beyond RFC 3339, which no state could hold, becomes the
// latest time that RFC 3339 can write, or the zero time if it is before year 1.
func InUTC(t time.Time) time.Time {
	switch t = t.UTC(); {
	case t.Year() < 1:
		return time.Time{}
	case t.Year() > 9999:
		return time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC)
	}
	return t
}
