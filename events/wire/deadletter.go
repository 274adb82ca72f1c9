package wire

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/clip"
)

// EncodeDeadLetter returns the message that stores d under its subject.
func EncodeDeadLetter(subjects events.Subjects, d *events.DeadLetter) (*nats.Msg, error) {
	m := nats.NewMsg(subjects.Dead(d.Service, d.Operation, d.ID))
	m.Data = d.Data
	m.Header = CarriedHeader(d.Header)
	HideStatus(m)
	if d.State != nil {
		if err := PutState(d.State, m.Header); err != nil {
			return nil, err
		}
		putOrigin(d.State.Origin, m.Header)
	}
	m.Header[events.HeaderID] = []string{d.ID}
	m.Header[events.HeaderReason] = []string{string(d.Reason)}
	m.Header[events.HeaderDetail] = []string{clip.Line(d.Detail)}
	m.Header[events.HeaderDiedAt] = []string{d.DiedAt.UTC().Format(time.RFC3339Nano)}
	if d.SubmittedTo != "" {
		m.Header[events.HeaderSubmittedTo] = []string{d.SubmittedTo}
	}
	if d.Truncated > 0 {
		m.Header[events.HeaderTruncated] = []string{fmt.Sprint(d.Truncated)}
	}
	return m, nil
}

// DecodeDeadLetter reads a message of the stream of dead letters. One that Rebound did not write,
// or whose state cannot be read, becomes a dead letter that says so, because it must not block
// those behind it. It returns an error only if the subject is not one of a dead letter.
func DecodeDeadLetter(subject string, sequence uint64, h nats.Header, data []byte) (*events.DeadLetter, error) {
	tokens := strings.Split(subject, ".")
	if len(tokens) < 3 || tokens[1] != "dead" {
		return nil, fmt.Errorf("subject %q is not one of a dead letter", clip.Text(subject, 200))
	}
	d := &events.DeadLetter{
		Service: events.Invalid, Operation: events.Invalid, ID: events.OperationID("rejected", subject, events.Invalid, events.Invalid), Sequence: sequence,
		Reason: events.Reason(HeaderValue(h, events.HeaderReason)), Detail: clip.UTF8(HeaderValue(h, events.HeaderDetail)), SubmittedTo: clip.UTF8(HeaderValue(h, events.HeaderSubmittedTo)),
		Header: CarriedHeader(h), Data: data,
	}
	if err := errors.Join(readDeadSubject(d, tokens), readDeadHeader(d, h)); err != nil {
		d.Reason, d.State, d.Truncated = events.ReasonRejected, nil, 0
		d.Detail = clip.Line(clip.UTF8("this is no dead letter that can be read: " + err.Error()))
	}
	return d, nil
}

// readDeadSubject reads the tokens of the subject.
func readDeadSubject(d *events.DeadLetter, tokens []string) error {
	var errs []error
	if len(tokens) != 5 {
		return fmt.Errorf("its subject has %d tokens", len(tokens))
	}
	for i, into := range []*string{&d.Service, &d.Operation} {
		name := tokens[2+i]
		if err := events.CheckName(name); err != nil && name != events.Invalid {
			errs = append(errs, fmt.Errorf("a name in its subject %w", err))
			continue
		}
		*into = name
	}
	if events.IsOperationID(tokens[4]) {
		d.ID = tokens[4]
	} else {
		errs = append(errs, fmt.Errorf("its subject ends in %q, which is no operation's id", clip.Text(tokens[4], 80)))
	}
	return errors.Join(errs...)
}

// readDeadHeader reads the headers that only a dead letter has.
func readDeadHeader(d *events.DeadLetter, h nats.Header) error {
	var errs []error
	if d.Reason == "" {
		errs = append(errs, fmt.Errorf("it has no header %s", events.HeaderReason))
	}
	if t, err := events.ParseTime(HeaderValue(h, events.HeaderDiedAt)); err == nil {
		d.DiedAt = events.InUTC(t)
	}
	if n := HeaderValue(h, events.HeaderTruncated); n != "" {
		var err error
		if d.Truncated, err = strconv.Atoi(n); err != nil || d.Truncated < 0 {
			errs = append(errs, fmt.Errorf("its header %s is %q, which is no number of bytes", events.HeaderTruncated, clip.Text(n, 20)))
		}
	}
	if HeaderValue(h, events.HeaderState) != "" {
		var err error
		if d.State, err = ReadState(h); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
