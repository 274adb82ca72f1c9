package client

import (
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
)

// Request is what a [Worker] or a [StreamWorker] passes to its handler: an operation, new or
// redelivered. The handler owns it until it returns.
type Request struct {
	// Subject is the subject on which it arrived.
	Subject string
	// Header and Data are those of the first attempt; a redelivery adds the Retry- headers.
	Header nats.Header
	Data   []byte
	// Attempt is the number of this attempt, 1 if the message does not come from Rebound.
	Attempt int

	// ID is the operation's id. This and the fields below are set on redelivered operations only.
	ID string
	// FirstFailure is when attempt 1 failed, Deadline when the operation becomes useless, zero
	// for never.
	FirstFailure, Deadline time.Time
	// Repeated reports whether this very attempt may have been made before, for example because
	// the instance of Rebound that made it died.
	Repeated bool
	// Replays is how often the operation was replayed from the dead letters.
	Replays int

	replyTo string // empty if no reply is expected
	reply   nats.Header
	body    []byte
}

// Redelivered reports whether the request comes from Rebound.
func (r *Request) Redelivered() bool { return r.ID != "" }

// SetReply sets the reply sent when the handler returns nil; an empty message by default. Rebound
// itself only looks at whether there is a reply. A [StreamWorker] sends none.
func (r *Request) SetReply(data []byte, header nats.Header) { r.body, r.reply = data, header }

// newRequest reads a message. It treats the message as a redelivery only if the Retry- headers
// are valid.
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

// moment parses a time; it returns zero if that fails.
func moment(s string) time.Time {
	at, err := events.ParseTime(s)
	if err != nil {
		return time.Time{}
	}
	return at
}
