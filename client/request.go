package client

import (
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
)

// Request is what a [Worker] or a [StreamWorker] hands to its handler: an operation, new or
// redelivered. It belongs to the handler until that returns.
type Request struct {
	// Subject is where it arrived.
	Subject string
	// Header and Data are those of the first attempt, and the header has the
	// Retry- headers besides.
	Header nats.Header
	Data   []byte
	// Attempt is the number of this attempt, 1 for one that does not come from
	// Rebound.
	Attempt int

	// What only a redelivered operation has.

	// ID is the operation's id.
	ID string
	// FirstFailure is when attempt 1 failed, and Deadline when the operation is of
	// no more use, zero for never.
	FirstFailure, Deadline time.Time
	// Repeated is whether this very attempt may have been made before, because the
	// instance of the service that made it died.
	Repeated bool
	// Replays is how often the operation came back from the dead letters.
	Replays int

	replyTo string // empty when nobody waits for an answer
	reply   nats.Header
	body    []byte
}

// Redelivered reports whether the request comes from Rebound.
func (r *Request) Redelivered() bool { return r.ID != "" }

// SetReply sets what the requester is answered when the handler returns nil. Without
// it that is an empty message. Rebound itself heeds only that there is an answer.
func (r *Request) SetReply(data []byte, header nats.Header) { r.body, r.reply = data, header }

// newRequest reads a message. What only Rebound writes is believed only where it
// makes sense.
func newRequest(subject string, h nats.Header, data []byte) *Request {
	r := &Request{Subject: subject, Header: h, Data: data, Attempt: 1}
	attempt, err := strconv.Atoi(wire.HeaderValue(h, events.HeaderAttempt))
	if err != nil || attempt < 1 || wire.HeaderValue(h, events.HeaderID) == "" {
		return r
	}
	r.Attempt, r.ID = attempt, wire.HeaderValue(h, events.HeaderID)
	r.FirstFailure = moment(wire.HeaderValue(h, events.HeaderFirstFailure))
	r.Deadline = moment(wire.HeaderValue(h, events.HeaderDeadline))
	r.Repeated = wire.HeaderValue(h, events.HeaderRepeated) == "true"
	if n, err := strconv.Atoi(wire.HeaderValue(h, events.HeaderReplay)); err == nil && n > 0 {
		r.Replays = n
	}
	return r
}

// moment reads a time, zero for what is none.
func moment(s string) time.Time {
	at, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}
	}
	return at
}
