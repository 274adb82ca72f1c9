package wire

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/clip"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// Submission is a message on a submit subject, with what decoding it needs to know besides.
type Submission struct {
	Subject string
	Header  nats.Header
	Data    []byte
	// Name identifies the message permanently, such as its stream and sequence. It becomes the
	// event id of a bare message.
	Name string
	// Received is when the stream stored the message.
	Received time.Time
}

// DecodeSubmission reads an operation from a submission: a CloudEvent in binary or structured
// mode, or a bare message whose subject names service and operation type. It reads the payload
// only in structured mode, where the payload contains the attributes.
//
// The error is an [*events.RejectedError] that lists every problem. DecodeSubmission does no I/O
// and is safe for concurrent use.
func DecodeSubmission(subjects events.Subjects, s Submission) (*events.Operation, error) {
	d := decoder{op: &events.Operation{Attempt: 1, Submitted: s.Received.UTC()}}
	service, operation, err := subjects.SplitSubmit(s.Subject)
	if err != nil {
		return nil, &events.RejectedError{Service: events.Invalid, Operation: events.Invalid, Problem: err}
	}
	d.op.Service, d.op.Operation = service, operation

	if size := headerSize(s.Header); size > events.MaxHeaders {
		d.errorf("headers have %d bytes together, more than the %d allowed", size, events.MaxHeaders)
	}

	m := message{header: s.Header, data: s.Data}
	switch m.ReadEncoding() {
	case binding.EncodingStructured, binding.EncodingBinary:
		e, err := m.event()
		if err != nil {
			return nil, d.reject(fmt.Errorf("reading the CloudEvent in %s mode: %w", m.ReadEncoding(), sanitised(err)))
		}
		if err := e.Validate(); err != nil {
			d.errorf("not a valid CloudEvent: %s", strings.Join(strings.Fields(sanitised(err).Error()), " "))
		}
		d.attributes(e)
	case binding.EncodingBatch:
		return nil, d.reject(errors.New("a batch of CloudEvents is not accepted; submit one event a message"))
	default:
		d.bare(m, s)
	}
	if d.op.FirstFailure.IsZero() {
		d.op.FirstFailure = d.op.Submitted
	}
	if d.op.TraceParent == "" {
		d.op.TraceParent = d.text(events.HeaderTraceParent, HeaderValue(s.Header, events.HeaderTraceParent), events.MaxName)
	}
	if d.op.Target != "" {
		d.check(subjects.CheckTarget(d.op.Target))
	}
	if len(d.errs) > 0 {
		return nil, d.reject(errors.Join(d.errs...))
	}
	d.op.ID = events.OperationID(d.op.Source, d.op.EventID, d.op.Service, d.op.Operation)
	d.op.Record(events.Attempt{Number: d.op.Attempt, At: d.op.FirstFailure, Code: d.code, Error: d.message})
	return d.op, nil
}

// decoder collects the attributes of a submission and their problems.
type decoder struct {
	op            *events.Operation
	code, message string
	errs          []error
}

func (d *decoder) errorf(layout string, args ...any) {
	d.errs = append(d.errs, fmt.Errorf(layout, args...))
}

func (d *decoder) check(err error) {
	if err != nil {
		d.errs = append(d.errs, err)
	}
}

func (d *decoder) reject(problem error) *events.RejectedError {
	return &events.RejectedError{Service: d.op.Service, Operation: d.op.Operation, Problem: problem}
}

// attributes reads the attributes of a CloudEvent.
func (d *decoder) attributes(e *event.Event) {
	d.op.EventID = d.text("id", e.ID(), events.MaxAttribute)
	d.op.Source = d.text("source", e.Source(), events.MaxAttribute)
	d.op.Type = d.text("type", e.Type(), events.MaxAttribute)
	d.op.Subject = d.text("subject", e.Subject(), events.MaxAttribute)
	if strings.HasPrefix(e.Type(), "rebound.") && e.Type() != events.TypeFailed {
		d.errorf("type %q is not for submissions; use %s", clip.Text(e.Type(), 80), events.TypeFailed)
	}
	if t := e.Time(); !t.IsZero() {
		d.op.FirstFailure = events.InUTC(t)
	}
	for name, value := range e.Extensions() {
		s, err := types.Format(value)
		if err != nil {
			d.errorf("attribute %s: %w", name, err)
			continue
		}
		d.extension(name, s)
	}
}

// bare reads a message that is not a CloudEvent. It may have attributes in ce- headers
// nevertheless; missing ones get defaults.
func (d *decoder) bare(m message, s Submission) {
	d.op.EventID = s.Name
	d.op.Source = pathOf(s.Subject)
	d.op.Type = events.TypeFailed
	for name, value := range m.attributes() {
		switch name {
		case "id":
			d.op.EventID = d.text(name, value, events.MaxAttribute)
		case "source":
			d.op.Source = d.text(name, value, events.MaxAttribute)
		case "type":
			d.op.Type = d.text(name, value, events.MaxAttribute)
		case "subject":
			d.op.Subject = d.text(name, value, events.MaxAttribute)
		case "time":
			d.op.FirstFailure = d.time(name, value)
		case "datacontenttype", "dataschema":
		default:
			d.extension(name, value)
		}
	}
	if d.op.EventID == "" {
		d.errorf("attribute id is empty")
	}
	if d.op.Source == "" {
		d.errorf("attribute source is empty")
	}
}

// pathOf returns a subject as a path, the source of a bare message.
func pathOf(subject string) string {
	path := append(make([]byte, 0, 128), '/')
	path = append(path, subject...)
	for i, c := range path {
		if c == '.' {
			path[i] = '/'
		}
	}
	return string(path)
}

// extension reads an attribute that CloudEvents itself does not define. It ignores unknown ones,
// which stay with the message.
func (d *decoder) extension(name, value string) {
	switch name {
	case "service":
		d.sameAsSubject(name, value, d.op.Service)
	case "operation":
		d.sameAsSubject(name, value, d.op.Operation)
	case "target":
		d.op.Target = d.text(name, value, events.MaxAttribute)
	case "priority":
		p, err := events.ParsePriority(clip.Text(value, 80))
		d.check(err)
		d.op.Priority, d.op.PriorityGiven = p, value != ""
	case "attempt":
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || n > math.MaxInt32 {
			d.errorf("attempt %q is no whole number of at least 1", clip.Text(value, 80))
			return
		}
		d.op.Attempt = n
	case "accountid":
		d.op.Account = d.text(name, value, events.MaxAttribute)
	case "campaignid":
		d.op.Campaign = d.text(name, value, events.MaxAttribute)
	case "errorcode":
		d.code = d.text(name, value, events.MaxCode)
	case "errormessage":
		d.message = d.text(name, value, events.MaxMessage)
	case "retryafter":
		at, err := events.ParseRetryAfter(clip.Text(value, 80), d.op.Submitted)
		d.check(err)
		d.op.RetryAfter = at
	case "deadline":
		d.op.Deadline = d.time(name, value)
	case "firstfailure":
		d.op.FirstFailure = d.time(name, value)
	case "delivery":
		switch delivery := events.Delivery(value); delivery {
		case events.Request, events.Publish:
			d.op.Delivery = delivery
		case "":
		default:
			d.errorf("delivery %q is neither %q nor %q", clip.Text(value, 80), events.Request, events.Publish)
		}
	case "traceparent":
		d.op.TraceParent = d.text(name, value, events.MaxName)
	default:
		d.override(name, value)
	}
}

// override reads an attribute that overrides the policy. It refuses those that name a key's
// breaker or limit, because ignoring them would mislead.
func (d *decoder) override(name, value string) {
	switch {
	case policy.Overridable(name):
		if d.op.Overrides == nil {
			d.op.Overrides = make(map[string]string)
		}
		d.op.Overrides[name] = d.text(name, value, events.MaxName)
	case policy.Unmistakable(name):
		d.check(policy.RefuseOverride(name))
	}
}

// sameAsSubject requires that an attribute agree with the subject, because a NATS user's
// permissions are granted by subject.
func (d *decoder) sameAsSubject(name, value, fromSubject string) {
	if err := events.CheckName(value); err != nil {
		d.errorf("attribute %s %w", name, err)
		return
	}
	if value != fromSubject {
		d.errorf("attribute %s %q differs from %q in the subject", name, value, fromSubject)
	}
}

// text checks an attribute's length and characters.
func (d *decoder) text(name, value string, limit int) string {
	if len(value) > limit {
		d.errorf("attribute %s has %d bytes, more than the %d allowed", name, len(value), limit)
		return ""
	}
	if !utf8.ValidString(value) {
		d.errorf("attribute %s is not valid UTF-8", name)
		return ""
	}
	for _, r := range value {
		if r < ' ' && r != '\t' && (r != '\n' || name != "errormessage") || r == 0x7f {
			d.errorf("attribute %s has the control character %U", name, r)
			return ""
		}
	}
	return value
}

func (d *decoder) time(name, value string) time.Time {
	if value == "" {
		return time.Time{}
	}
	t, err := events.ParseTime(value)
	switch {
	case err != nil:
		d.errorf("attribute %s %w", name, err)
		return time.Time{}
	case t.Year() < 1970:
		d.errorf("attribute %s %q is no RFC 3339 time since 1970", name, clip.Text(value, 80))
		return time.Time{}
	}
	return events.InUTC(t)
}
