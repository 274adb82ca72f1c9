package events

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
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

// ReadDeadLetter reads a message of the stream of dead letters. One that Rebound did
// not write, or whose state cannot be read, is a dead letter that says so: it must
// not stand in the way of those behind it.
func ReadDeadLetter(subject string, sequence uint64, h nats.Header, data []byte) (*DeadLetter, error) {
	tokens := strings.Split(subject, ".")
	if len(tokens) < 3 || tokens[1] != "dead" {
		return nil, fmt.Errorf("subject %q is not one of a dead letter", clip(subject, 200))
	}
	d := &DeadLetter{
		Service: Invalid, Operation: Invalid, ID: OperationID("rejected", subject, Invalid, Invalid), Sequence: sequence,
		Reason: Reason(header(h, HeaderReason)), Detail: valid(header(h, HeaderDetail)), SubmittedTo: valid(header(h, HeaderSubmittedTo)),
		Header: CarriedHeader(h), Data: data,
	}
	if err := errors.Join(d.readSubject(tokens), d.readHeader(h)); err != nil {
		d.Reason, d.State, d.Truncated = ReasonRejected, nil, 0
		d.Detail = oneLine(valid("this is no dead letter that can be read: " + err.Error()))
	}
	return d, nil
}

// readSubject reads what the tokens of the subject name.
func (d *DeadLetter) readSubject(tokens []string) error {
	var faults []error
	if len(tokens) != 5 {
		return fmt.Errorf("its subject has %d tokens", len(tokens))
	}
	for i, into := range []*string{&d.Service, &d.Operation} {
		name := tokens[2+i]
		if err := CheckName(name); err != nil && name != Invalid {
			faults = append(faults, fmt.Errorf("a name in its subject %w", err))
			continue
		}
		*into = name
	}
	if isOperationID(tokens[4]) {
		d.ID = tokens[4]
	} else {
		faults = append(faults, fmt.Errorf("its subject ends in %q, which is no operation's id", clip(tokens[4], 80)))
	}
	return errors.Join(faults...)
}

// readHeader reads what only a dead letter has.
func (d *DeadLetter) readHeader(h nats.Header) error {
	var faults []error
	if d.Reason == "" {
		faults = append(faults, fmt.Errorf("it has no header %s", HeaderReason))
	}
	if t, err := time.Parse(time.RFC3339Nano, header(h, HeaderDiedAt)); err == nil {
		d.DiedAt = inUTC(t)
	}
	if n := header(h, HeaderTruncated); n != "" {
		var err error
		if d.Truncated, err = strconv.Atoi(n); err != nil || d.Truncated < 0 {
			faults = append(faults, fmt.Errorf("its header %s is %q, which is no number of bytes", HeaderTruncated, clip(n, 20)))
		}
	}
	if len(h[HeaderState]) > 0 {
		var err error
		if d.State, err = FromHeader(h); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// Grave returns what names the dead letter.
func (d *DeadLetter) Grave() *Grave { return &Grave{Sequence: d.Sequence, DiedAt: d.DiedAt} }

// ErrorCode returns the code of the last failure, empty when there is none.
func (d *DeadLetter) ErrorCode() string {
	if d.State == nil {
		return ""
	}
	last, _ := d.State.Last()
	return last.Code
}
