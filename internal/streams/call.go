package streams

import (
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// CallTimeout bounds a call of JetStream, whose answer may be lost.
	CallTimeout = 5 * time.Second
	// ClockSlack covers the difference between the clocks of two servers of a cluster when times
	// of messages in two streams are compared.
	ClockSlack = 2 * time.Second
)

// HeaderSize returns the bytes that a header takes in a message.
func HeaderSize(h nats.Header) int64 {
	n := int64(len("NATS/1.0\r\n\r\n"))
	for k, values := range h {
		for _, v := range values {
			n += int64(len(k) + len(v) + len(": \r\n"))
		}
	}
	return n
}

// MessageName names a message of a stream permanently. It becomes the event id of a bare
// submission, so that a repeat after a crash is the same operation. A stream that was created
// anew counts from 1 again, but has its messages at other times.
func MessageName(sequence uint64, stored time.Time) string {
	return strconv.FormatInt(stored.UnixNano(), 36) + "-" + strconv.FormatUint(sequence, 10)
}
