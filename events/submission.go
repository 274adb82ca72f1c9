package events

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/rebound-mq/rebound/internal/clip"
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

// ParseRetryAfter parses a Retry-After value: seconds, an HTTP date or an RFC 3339 time. It
// returns the earliest time for another attempt, counting seconds from now; the zero time for an
// empty value. More than 366 days is an error.
func ParseRetryAfter(value string, now time.Time) (time.Time, error) {
	value = strings.TrimSpace(value)
	if value == "" {
		return time.Time{}, nil
	}
	at := time.Time{}
	if seconds, err := strconv.ParseFloat(value, 64); err == nil {
		if !(seconds >= 0 && seconds <= 366*24*3600) {
			return time.Time{}, fmt.Errorf("retry-after %q is not between 0 seconds and a year", value)
		}
		return now.Add(time.Duration(seconds * float64(time.Second))), nil
	}
	for _, layout := range []string{time.RFC1123, time.RFC1123Z, time.RFC850, time.ANSIC, time.RFC3339} {
		if t, err := time.Parse(layout, value); err == nil {
			at = InUTC(t)
			if at.IsZero() {
				return at, nil // long past
			}
			break
		}
	}
	switch {
	case at.IsZero():
		return time.Time{}, fmt.Errorf("retry-after %q is neither seconds nor a date", clip.Text(value, 80))
	case at.After(now.Add(366 * 24 * time.Hour)):
		return time.Time{}, fmt.Errorf("retry-after %q is more than a year away", value)
	}
	return at, nil
}
