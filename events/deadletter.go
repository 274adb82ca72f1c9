package events

import (
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// headers that only a dead letter has.
const (
	// HeaderDiedAt is when the operation ended, in RFC 3339.
	HeaderDiedAt = "Retry-Died-At"
	// HeaderSubmittedTo is the subject of the submission.
	HeaderSubmittedTo = "Retry-Submitted-To"
	// HeaderTruncated is the length of the original payload in bytes, on a dead
	// letter that had no room for all of it.
	HeaderTruncated = "Retry-Truncated"
)

// DeadLetter is an operation that ended in [RetryFailed], kept whole.
type DeadLetter struct {
	// ID is the operation's id, the last token of the subject.
	ID        string `json:"id"`
	Service   string `json:"service"`
	Operation string `json:"operation"`
	Reason    Reason `json:"reason"`
	// Detail says the reason in a sentence.
	Detail string    `json:"detail"`
	DiedAt time.Time `json:"diedAt"`
	// SubmittedTo is the subject of the submission.
	SubmittedTo string `json:"submittedTo,omitempty"`
	// Truncated is the length of the original payload in bytes when there was
	// no room for all of it, else zero.
	Truncated int `json:"truncated,omitempty"`
	// State is the operation with its history; nil when the submission could
	// not be read.
	State *Operation `json:"state,omitempty"`

	// Sequence is the dead letter's sequence in its stream.
	Sequence uint64 `json:"sequence"`
	// Header and Data are the submission's, untouched.
	Header nats.Header `json:"header,omitempty"`
	Data   []byte      `json:"data,omitempty"`
}

// Message returns the message that keeps d under its subject.
func (d *DeadLetter) Message(subjects Subjects) (*nats.Msg, error) {
	m := nats.NewMsg(subjects.Dead(d.Service, d.Operation, d.ID))
	m.Data = d.Data
	m.Header = CarriedHeader(d.Header)
	if d.State != nil {
		if err := d.State.Put(m.Header); err != nil {
			return nil, err
		}
		d.State.Origin.put(m.Header)
	}
	m.Header[HeaderID] = []string{d.ID}
	m.Header[HeaderReason] = []string{string(d.Reason)}
	m.Header[HeaderDetail] = []string{oneLine(d.Detail)}
	m.Header[HeaderDiedAt] = []string{d.DiedAt.UTC().Format(time.RFC3339Nano)}
	if d.SubmittedTo != "" {
		m.Header[HeaderSubmittedTo] = []string{d.SubmittedTo}
	}
	if d.Truncated > 0 {
		m.Header[HeaderTruncated] = []string{fmt.Sprint(d.Truncated)}
	}
	return m, nil
}

// ReadDeadLetter reads a message of the stream of dead letters.
func ReadDeadLetter(subject string, sequence uint64, h nats.Header, data []byte) (*DeadLetter, error) {
	tokens := lastTokens(subject, 3)
	if tokens == nil {
		return nil, fmt.Errorf("subject %q is not one of a dead letter", clip(subject, 200))
	}
	d := &DeadLetter{
		Service: tokens[0], Operation: tokens[1], ID: tokens[2], Sequence: sequence,
		Reason: Reason(h.Get(HeaderReason)), Detail: h.Get(HeaderDetail), SubmittedTo: h.Get(HeaderSubmittedTo),
		Header: CarriedHeader(h), Data: data,
	}
	if t, err := time.Parse(time.RFC3339Nano, h.Get(HeaderDiedAt)); err == nil {
		d.DiedAt = t
	}
	if n := h.Get(HeaderTruncated); n != "" {
		if _, err := fmt.Sscan(n, &d.Truncated); err != nil {
			return nil, fmt.Errorf("dead letter %s: %s header %q is no number", d.ID, HeaderTruncated, clip(n, 20))
		}
	}
	if len(h[HeaderState]) > 0 {
		state, err := FromHeader(h)
		if err != nil {
			return nil, fmt.Errorf("dead letter %s: %w", d.ID, err)
		}
		d.State = state
	}
	return d, nil
}

// ErrorCode returns the code of the last failure, empty when there is none.
func (d *DeadLetter) ErrorCode() string {
	if d.State == nil {
		return ""
	}
	last, _ := d.State.Last()
	return last.Code
}
