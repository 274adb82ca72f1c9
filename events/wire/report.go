package wire

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/clip"
	"github.com/rebound-mq/rebound/internal/strictjson"
)

// maxReportData bounds a report, in bytes.
const maxReportData = 16 << 10

// DecodeReport reads a report from a message on a report subject. A report is a CloudEvent of
// type [events.TypeReport] in binary or structured mode, or its bare data, or has no data but the
// headers of the worker's message with [events.HeaderResult] added and, for a failure, those of a
// NATS micro error. A Retry-After date counts from received. The error lists every problem
// but shows neither the token nor the data.
func DecodeReport(subjects events.Subjects, m *nats.Msg, received time.Time) (service, operation string, r events.Report, err error) {
	if service, operation, err = subjects.SplitReport(m.Subject); err != nil {
		return "", "", events.Report{}, err
	}
	if len(m.Data) > maxReportData {
		return service, operation, events.Report{}, fmt.Errorf("the report has %d bytes, more than the %d allowed", len(m.Data), maxReportData)
	}
	r, err = readReport(service, operation, m, received)
	if err == nil {
		err = r.Check()
	}
	return service, operation, r.Clipped(), err
}

// readReport reads a report in any of its forms.
func readReport(service, operation string, m *nats.Msg, received time.Time) (events.Report, error) {
	data, err := reportData(m, events.TypeReport, attribute{"service", service}, attribute{"operation", operation})
	if err != nil {
		return events.Report{}, err
	}
	if HeaderValue(m.Header, events.HeaderResult) != "" {
		return reportFromHeader(m.Header, received)
	}
	var r events.Report
	if err := strictjson.Unmarshal(data, &r); err != nil {
		return events.Report{}, fmt.Errorf("the report has neither the header %s nor the data of %s: %w", events.HeaderResult, events.TypeReport, err)
	}
	return r, nil
}

// reportFromHeader reads a report made of headers.
func reportFromHeader(h nats.Header, received time.Time) (events.Report, error) {
	r := events.Report{
		ID: HeaderValue(h, events.HeaderID), Token: HeaderValue(h, events.HeaderToken), Result: events.Result(HeaderValue(h, events.HeaderResult)),
	}
	r.Code, r.Error = MicroError(h)
	var err error
	if r.Attempt, err = strconv.Atoi(HeaderValue(h, events.HeaderAttempt)); err != nil {
		return events.Report{}, fmt.Errorf("header %s is no whole number", events.HeaderAttempt)
	}
	at, err := events.ParseRetryAfter(HeaderValue(h, events.HeaderRetryAfter), received)
	if err != nil {
		return events.Report{}, err
	}
	if at.After(received) {
		r.RetryAfterMs = events.InMilliseconds(at.Sub(received))
	}
	return r, nil
}

// EncodeReport returns the message that carries a report: a CloudEvent in binary mode whose id is
// also the message id. subject is the [events.HeaderReport] of the worker's message.
func EncodeReport(subject string, r events.Report, from Envelope) (*nats.Msg, error) {
	if err := r.Check(); err != nil {
		return nil, fmt.Errorf("the report on operation %s: %w", clip.Text(r.ID, 80), err)
	}
	e := from.event(events.TypeReport)
	if tokens := strings.Split(subject, "."); len(tokens) >= 2 {
		e.SetExtension("service", tokens[len(tokens)-2])
		e.SetExtension("operation", tokens[len(tokens)-1])
	}
	if err := e.SetData(event.ApplicationJSON, r.Clipped()); err != nil {
		return nil, fmt.Errorf("encoding the report on operation %s: %w", r.ID, err)
	}
	m, err := EncodeCloudEvent(subject, &e)
	if err != nil {
		return nil, err
	}
	m.Header[jetstream.MsgIDHeader] = []string{from.ID}
	return m, nil
}

// reportData returns the data of a report in any mode. A CloudEvent must have the given type, and
// its attributes, where present, must agree with the subject.
func reportData(m *nats.Msg, eventType string, attributes ...attribute) ([]byte, error) {
	msg := message{header: m.Header, data: m.Data}
	encoding := msg.ReadEncoding()
	switch encoding {
	case binding.EncodingBatch:
		return nil, errors.New("a batch of CloudEvents is not accepted; report one event a message")
	case binding.EncodingUnknown:
		return m.Data, nil
	}
	e, err := msg.event()
	if err != nil {
		return nil, fmt.Errorf("reading the CloudEvent in %s mode: %w", encoding, sanitised(err))
	}
	if err := checkReportEvent(e, eventType, attributes); err != nil {
		return nil, err
	}
	if encoding == binding.EncodingBinary {
		return m.Data, nil
	}
	return e.Data(), nil
}

// attribute is an extension attribute with its expected value.
type attribute struct{ name, value string }

// checkReportEvent checks the attributes of a report.
func checkReportEvent(e *event.Event, eventType string, attributes []attribute) error {
	var errs []error
	if err := e.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("not a valid CloudEvent: %s", strings.Join(strings.Fields(sanitised(err).Error()), " ")))
	}
	if e.Type() != eventType {
		errs = append(errs, fmt.Errorf("type %q is not %s", clip.Text(e.Type(), 80), eventType))
	}
	if t := e.DataContentType(); t != "" && !isJSON(t) {
		errs = append(errs, fmt.Errorf("content type %q is not JSON", clip.Text(t, 80)))
	}
	for _, a := range attributes {
		if named, ok := e.Extensions()[a.name]; ok {
			if s, err := types.Format(named); err != nil || s != a.value {
				errs = append(errs, fmt.Errorf("attribute %s %q differs from %q in the subject", a.name, clip.Text(s, 80), a.value))
			}
		}
	}
	return errors.Join(errs...)
}

func isJSON(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.ToLower(strings.TrimSpace(media))
	return media == event.ApplicationJSON || media == event.TextJSON || strings.HasSuffix(media, "+json")
}
