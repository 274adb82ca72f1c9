package events

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/binding/format"
	"github.com/cloudevents/sdk-go/v2/binding/spec"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/nats-io/nats.go"
)

// TypeFailed is the type of a submitted operation.
const TypeFailed = "rebound.operation.failed.v1"

// Bounds of the attributes of a submission, in bytes.
const (
	MaxAttribute = 1024
	maxMessage   = 8192
	// MaxHeaders bounds all headers of a submission together, so that they and
	// the operation's state fit into the 64 KiB that JetStream stores.
	MaxHeaders = 16 << 10
)

// RejectedError says why a submission cannot be accepted. Every fault that was
// found is in it.
type RejectedError struct {
	// Service and Operation are as far as they could be read, else [Invalid].
	Service, Operation string
	Problem            error
}

// Error implements error.
func (e *RejectedError) Error() string { return "rejected: " + e.Problem.Error() }

// Unwrap returns the faults.
func (e *RejectedError) Unwrap() error { return e.Problem }

// Submission is a message on a submit subject, with what decoding it needs to
// know from outside.
type Submission struct {
	Subject string
	Header  nats.Header
	Data    []byte
	// Name identifies the message for ever, such as its stream and sequence.
	// It becomes the event id of a bare message.
	Name string
	// Received is when the stream stored the message.
	Received time.Time
}

// Decode reads an operation from a submission: a CloudEvent in binary or in
// structured mode, or a bare message of which the subject names service and
// operation type. The payload is looked at only in structured mode, where it
// holds the attributes.
//
// The error is a [*RejectedError] and lists every fault. Decode does no I/O
// and is safe for concurrent use.
func Decode(subjects Subjects, s Submission) (*Operation, error) {
	d := decoder{op: &Operation{Attempt: 1, Delivery: Request, Submitted: s.Received.UTC()}}
	service, operation, err := subjects.SplitSubmit(s.Subject)
	if err != nil {
		return nil, &RejectedError{Service: Invalid, Operation: Invalid, Problem: err}
	}
	d.op.Service, d.op.Operation = service, operation

	if size := headerSize(s.Header); size > MaxHeaders {
		d.fault("headers have %d bytes together, more than the %d allowed", size, MaxHeaders)
	}

	m := message{header: s.Header, data: s.Data}
	switch m.ReadEncoding() {
	case binding.EncodingStructured, binding.EncodingBinary:
		e, err := m.event()
		if err != nil {
			return nil, d.reject(fmt.Errorf("reading the CloudEvent in %s mode: %w", m.ReadEncoding(), sanitised(err)))
		}
		if err := e.Validate(); err != nil {
			d.fault("not a valid CloudEvent: %s", strings.Join(strings.Fields(sanitised(err).Error()), " "))
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
		d.op.TraceParent = d.text(HeaderTraceParent, header(s.Header, HeaderTraceParent), MaxName)
	}
	if d.op.Target != "" {
		d.check(subjects.CheckTarget(d.op.Target))
	}
	if len(d.faults) > 0 {
		return nil, d.reject(errors.Join(d.faults...))
	}
	d.op.ID = OperationID(d.op.Source, d.op.EventID, d.op.Service, d.op.Operation)
	d.op.Record(Attempt{Number: d.op.Attempt, At: d.op.FirstFailure, Code: d.code, Error: d.message})
	return d.op, nil
}

// decoder gathers the attributes of one submission and their faults.
type decoder struct {
	op            *Operation
	code, message string
	faults        []error
}

func (d *decoder) fault(layout string, args ...any) {
	d.faults = append(d.faults, fmt.Errorf(layout, args...))
}

func (d *decoder) check(err error) {
	if err != nil {
		d.faults = append(d.faults, err)
	}
}

func (d *decoder) reject(problem error) *RejectedError {
	return &RejectedError{Service: d.op.Service, Operation: d.op.Operation, Problem: problem}
}

// attributes reads a CloudEvent.
func (d *decoder) attributes(e *event.Event) {
	d.op.EventID = d.text("id", e.ID(), MaxAttribute)
	d.op.Source = d.text("source", e.Source(), MaxAttribute)
	d.op.Type = d.text("type", e.Type(), MaxAttribute)
	d.op.Subject = d.text("subject", e.Subject(), MaxAttribute)
	if strings.HasPrefix(e.Type(), "rebound.") && e.Type() != TypeFailed {
		d.fault("type %q is not for submissions; use %s", clip(e.Type(), 80), TypeFailed)
	}
	if t := e.Time(); !t.IsZero() {
		d.op.FirstFailure = inUTC(t)
	}
	for name, value := range e.Extensions() {
		s, err := types.Format(value)
		if err != nil {
			d.fault("attribute %s: %w", name, err)
			continue
		}
		d.extension(name, s)
	}
}

// bare reads a message that is no CloudEvent. Attributes may stand in ce-
// headers all the same; those that are missing are filled in.
func (d *decoder) bare(m message, s Submission) {
	d.op.EventID = s.Name
	d.op.Source = "/" + strings.ReplaceAll(s.Subject, ".", "/")
	d.op.Type = TypeFailed
	for name, value := range m.attributes() {
		switch name {
		case "id":
			d.op.EventID = d.text(name, value, MaxAttribute)
		case "source":
			d.op.Source = d.text(name, value, MaxAttribute)
		case "type":
			d.op.Type = d.text(name, value, MaxAttribute)
		case "subject":
			d.op.Subject = d.text(name, value, MaxAttribute)
		case "time":
			d.op.FirstFailure = d.time(name, value)
		case "datacontenttype", "dataschema":
		default:
			d.extension(name, value)
		}
	}
	if d.op.EventID == "" {
		d.fault("attribute id is empty")
	}
	if d.op.Source == "" {
		d.fault("attribute source is empty")
	}
}

// extension reads one attribute that CloudEvents itself does not define.
// Unknown ones stay with the message, untouched.
func (d *decoder) extension(name, value string) {
	switch name {
	case "service":
		d.sameAsSubject(name, value, d.op.Service)
	case "operation":
		d.sameAsSubject(name, value, d.op.Operation)
	case "target":
		d.op.Target = d.text(name, value, MaxAttribute)
	case "priority":
		p, err := ParsePriority(clip(value, 80))
		d.check(err)
		d.op.Priority, d.op.PriorityGiven = p, value != ""
	case "attempt":
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || n > math.MaxInt32 {
			d.fault("attempt %q is no whole number of at least 1", clip(value, 80))
			return
		}
		d.op.Attempt = n
	case "accountid":
		d.op.Account = d.text(name, value, MaxAttribute)
	case "campaignid":
		d.op.Campaign = d.text(name, value, MaxAttribute)
	case "errorcode":
		d.code = d.text(name, value, MaxCode)
	case "errormessage":
		d.message = d.text(name, value, maxMessage)
	case "retryafter":
		at, err := ParseRetryAfter(clip(value, 80), d.op.Submitted)
		d.check(err)
		d.op.RetryAfter = at
	case "deadline":
		d.op.Deadline = d.time(name, value)
	case "firstfailure":
		d.op.FirstFailure = d.time(name, value)
	case "delivery":
		switch delivery := Delivery(value); delivery {
		case Request, Publish:
			d.op.Delivery = delivery
		case "":
		default:
			d.fault("delivery %q is neither %q nor %q", clip(value, 80), Request, Publish)
		}
	case "traceparent":
		d.op.TraceParent = d.text(name, value, MaxName)
	case "maxattempts", "basedelay", "maxdelay", "multiplier", "backoffstrategy", "jittertype", "attempttimeout", "maxelapsedtime":
		if d.op.Overrides == nil {
			d.op.Overrides = make(map[string]string)
		}
		d.op.Overrides[name] = d.text(name, value, MaxName)
	}
}

// sameAsSubject insists that an attribute agrees with the subject, because the
// permissions of a NATS user are given by subject.
func (d *decoder) sameAsSubject(name, value, fromSubject string) {
	if err := CheckName(value); err != nil {
		d.fault("attribute %s %w", name, err)
		return
	}
	if value != fromSubject {
		d.fault("attribute %s %q differs from %q in the subject", name, value, fromSubject)
	}
}

// text checks an attribute's length and characters.
func (d *decoder) text(name, value string, limit int) string {
	if len(value) > limit {
		d.fault("attribute %s has %d bytes, more than the %d allowed", name, len(value), limit)
		return ""
	}
	if !utf8.ValidString(value) {
		d.fault("attribute %s is not valid UTF-8", name)
		return ""
	}
	for _, r := range value {
		if r < ' ' && r != '\t' && (r != '\n' || name != "errormessage") || r == 0x7f {
			d.fault("attribute %s has the control character %U", name, r)
			return ""
		}
	}
	return value
}

func (d *decoder) time(name, value string) time.Time {
	if value == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, value)
	if err != nil || t.Year() < 1970 {
		d.fault("attribute %s %q is no RFC 3339 time since 1970", name, clip(value, 80))
		return time.Time{}
	}
	return inUTC(t)
}

// inUTC converts a time to UTC. One whose year there RFC 3339 cannot write, so that
// no state could hold it, becomes the last that it can, or none.
func inUTC(t time.Time) time.Time {
	switch t = t.UTC(); {
	case t.Year() < 1:
		return time.Time{}
	case t.Year() > 9999:
		return time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC)
	}
	return t
}

// ParseRetryAfter reads a Retry-After value: seconds, an HTTP date or an RFC
// 3339 time. It returns the moment, counted from now, at which one may come
// back; the zero time for an empty value. More than a year is refused.
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
			at = inUTC(t)
			if at.IsZero() {
				return at, nil // long over
			}
			break
		}
	}
	switch {
	case at.IsZero():
		return time.Time{}, fmt.Errorf("retry-after %q is neither seconds nor a date", clip(value, 80))
	case at.After(now.Add(366 * 24 * time.Hour)):
		return time.Time{}, fmt.Errorf("retry-after %q is more than a year away", value)
	}
	return at, nil
}

// message reads a NATS message for the CloudEvents SDK. Attribute headers are
// matched without regard to case and are percent-decoded, as the NATS protocol
// binding of CloudEvents has it.
type message struct {
	header nats.Header
	data   []byte
}

var versions = spec.WithPrefix(headerCloudEvents)

func (m *message) version() spec.Version {
	return versions.Version(header(m.header, versions.PrefixedSpecVersionName()))
}

// event reads the CloudEvent.
func (m *message) event() (*event.Event, error) {
	if m.ReadEncoding() == binding.EncodingStructured {
		return m.structured()
	}
	return binding.ToEvent(context.Background(), m)
}

// structured reads an envelope. The SDK's JSON reader panics on some malformed
// ones, such as a data_base64 that is no string; that is an error here.
func (m *message) structured() (e *event.Event, err error) {
	defer func() {
		if recover() != nil {
			e, err = nil, errors.New("the envelope is malformed")
		}
	}()
	if !json.Valid(m.data) {
		return nil, errors.New("the envelope is not valid JSON")
	}
	return binding.ToEvent(context.Background(), m)
}

// ReadEncoding implements binding.MessageReader.
func (m *message) ReadEncoding() binding.Encoding {
	contentType := strings.ToLower(header(m.header, headerContentType))
	switch {
	case strings.HasPrefix(contentType, event.ApplicationCloudEventsBatchJSON):
		return binding.EncodingBatch
	case format.IsFormat(contentType):
		return binding.EncodingStructured
	case header(m.header, versions.PrefixedSpecVersionName()) != "":
		return binding.EncodingBinary
	}
	return binding.EncodingUnknown
}

// ReadStructured implements binding.MessageReader.
func (m *message) ReadStructured(ctx context.Context, w binding.StructuredWriter) error {
	f := format.Lookup(strings.ToLower(header(m.header, headerContentType)))
	if f == nil {
		return binding.ErrNotStructured
	}
	return w.SetStructuredEvent(ctx, f, bytes.NewReader(m.data))
}

// ReadBinary implements binding.MessageReader. It leaves the data out.
func (m *message) ReadBinary(_ context.Context, w binding.BinaryWriter) error {
	version := m.version()
	if version == nil {
		return fmt.Errorf("specversion %q is not known", clip(header(m.header, versions.PrefixedSpecVersionName()), 80))
	}
	for name, value := range m.attributes() {
		var err error
		if attribute := version.Attribute(headerCloudEvents + name); attribute != nil {
			err = w.SetAttribute(attribute, value)
		} else {
			err = w.SetExtension(name, value)
		}
		if err != nil {
			return fmt.Errorf("attribute %s: %w", clip(name, 80), err)
		}
	}
	if contentType := header(m.header, headerContentType); contentType != "" {
		return w.SetAttribute(version.AttributeFromKind(spec.DataContentType), contentType)
	}
	return nil
}

// GetAttribute implements binding.MessageMetadataReader.
func (m *message) GetAttribute(kind spec.Kind) (spec.Attribute, any) {
	version := m.version()
	if version == nil {
		return nil, nil
	}
	attribute := version.AttributeFromKind(kind)
	if attribute == nil {
		return nil, nil
	}
	if value := header(m.header, attribute.PrefixedName()); value != "" {
		return attribute, percentDecode(value)
	}
	return attribute, nil
}

// GetExtension implements binding.MessageMetadataReader.
func (m *message) GetExtension(name string) any {
	if value := header(m.header, headerCloudEvents+name); value != "" {
		return percentDecode(value)
	}
	return nil
}

// Finish implements binding.Message.
func (m *message) Finish(error) error { return nil }

// attributes returns the ce- headers by their lower-case names.
func (m *message) attributes() map[string]string {
	out := make(map[string]string, len(m.header))
	for k, v := range m.header {
		if len(v) == 0 || !hasPrefixFold(k, headerCloudEvents) {
			continue
		}
		name, value := strings.ToLower(k[len(headerCloudEvents):]), v[0]
		if _, twice := out[name]; twice {
			value = header(m.header, headerCloudEvents+name)
		}
		out[name] = percentDecode(value)
	}
	return out
}

// sanitised keeps pieces of a payload out of an error of the decoder: JSON
// decoders quote what they stumbled over.
func sanitised(err error) error {
	text := err.Error()
	if i := strings.Index(text, ", error found in"); i >= 0 {
		text = text[:i]
	}
	if i := strings.Index(text, "|..."); i >= 0 {
		text = text[:i]
	}
	return errors.New(clip(text, 400))
}

var (
	_ binding.Message               = (*message)(nil)
	_ binding.MessageMetadataReader = (*message)(nil)
)
