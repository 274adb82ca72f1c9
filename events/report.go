package events

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/internal/strictjson"
)

// TypeReport is the type of a report that a worker makes on an attempt.
const TypeReport = "rebound.report.v1"

// Result is what a worker reports.
type Result string

// The results.
const (
	// Succeeded and Failed end the attempt.
	Succeeded Result = "success"
	Failed    Result = "failure"
	// Working says that the worker lives and has not finished.
	Working Result = "working"
)

// Results lists the results.
var Results = []Result{Succeeded, Failed, Working}

const (
	// maxReportData bounds a report, in bytes.
	maxReportData = 16 << 10
	maxToken      = 128
	// MaxRetryAfter is the longest time that a worker may ask for.
	MaxRetryAfter = 366 * 24 * time.Hour
)

// Report is the data of rebound.report.v1: how a worker says that an attempt goes.
type Report struct {
	// ID, Attempt and Token are Retry-Id, Retry-Attempt and Retry-Token of the
	// message that the worker has.
	ID      string `json:"id"`
	Attempt int    `json:"attempt"`
	Token   string `json:"token"`
	Result  Result `json:"result"`
	// Code and Error say how the attempt failed. What is longer than [MaxCode] and
	// [MaxError] is clipped.
	Code  string `json:"code,omitempty"`
	Error string `json:"error,omitempty"`
	// RetryAfterMs is how long after the report the next attempt is to be made at
	// the earliest, in milliseconds, at most 366 days.
	RetryAfterMs float64 `json:"retryAfterMs,omitempty"`
}

// DecodeReport reads a report from a message on a report subject: a CloudEvent of
// type [TypeReport] in binary or in structured mode, its bare data, or no data at
// all but the headers of the message that the worker has, with [HeaderResult] and,
// for a failure, those of a NATS micro error besides. A Retry-After that is a
// date counts from received. The error lists every fault and shows neither the
// token nor the data.
func DecodeReport(subjects Subjects, m *nats.Msg, received time.Time) (service, operation string, r Report, err error) {
	if service, operation, err = subjects.SplitReport(m.Subject); err != nil {
		return "", "", Report{}, err
	}
	if len(m.Data) > maxReportData {
		return service, operation, Report{}, fmt.Errorf("the report has %d bytes, more than the %d allowed", len(m.Data), maxReportData)
	}
	r, err = readReport(service, operation, m, received)
	if err == nil {
		err = r.check()
	}
	return service, operation, r, err
}

// readReport reads a report in whatever form it is.
func readReport(service, operation string, m *nats.Msg, received time.Time) (Report, error) {
	data, err := reportData(m, TypeReport, attribute{"service", service}, attribute{"operation", operation})
	if err != nil {
		return Report{}, err
	}
	if header(m.Header, HeaderResult) != "" {
		return reportFromHeader(m.Header, received)
	}
	var r Report
	if err := strictjson.Unmarshal(data, &r); err != nil {
		return Report{}, fmt.Errorf("the report has neither the header %s nor the data of %s: %w", HeaderResult, TypeReport, err)
	}
	return r, nil
}

// reportFromHeader reads a report that consists of headers.
func reportFromHeader(h nats.Header, received time.Time) (Report, error) {
	r := Report{
		ID: header(h, HeaderID), Token: header(h, HeaderToken), Result: Result(header(h, HeaderResult)),
		Code: header(h, micro.ErrorCodeHeader), Error: header(h, micro.ErrorHeader),
	}
	var err error
	if r.Attempt, err = strconv.Atoi(header(h, HeaderAttempt)); err != nil {
		return Report{}, fmt.Errorf("header %s is no whole number", HeaderAttempt)
	}
	at, err := ParseRetryAfter(header(h, HeaderRetryAfter), received)
	if err != nil {
		return Report{}, err
	}
	if at.After(received) {
		r.RetryAfterMs = InMilliseconds(at.Sub(received))
	}
	return r, nil
}

// check reports every fault.
func (r *Report) check() error {
	var faults []error
	if !isOperationID(r.ID) {
		faults = append(faults, fmt.Errorf("id %q is no operation's; it is the %s of the message", clip(r.ID, 80), HeaderID))
	}
	if r.Attempt < 1 || r.Attempt > math.MaxInt32 {
		faults = append(faults, fmt.Errorf("attempt %d is no attempt's number; it is the %s of the message", r.Attempt, HeaderAttempt))
	}
	if r.Token == "" || len(r.Token) > maxToken {
		faults = append(faults, fmt.Errorf("the token is missing or too long; it is the %s of the message", HeaderToken))
	}
	if !slices.Contains(Results, r.Result) {
		faults = append(faults, fmt.Errorf("result %q is none of success, failure and working", clip(string(r.Result), 80)))
	}
	if r.RetryAfterMs < 0 || r.RetryAfterMs > InMilliseconds(MaxRetryAfter) {
		faults = append(faults, errors.New("retryAfterMs is not between 0 and 366 days"))
	}
	if r.Result != Failed && (r.Code != "" || r.Error != "" || r.RetryAfterMs != 0) {
		faults = append(faults, fmt.Errorf("a report of %s tells of an error", clip(string(r.Result), 80)))
	}
	r.Code, r.Error = clip(oneLine(valid(r.Code)), MaxCode), clip(oneLine(valid(r.Error)), MaxError)
	return errors.Join(faults...)
}

// isOperationID reports whether id looks like an [OperationID].
func isOperationID(id string) bool {
	return len(id) == 32 && strings.Trim(id, "0123456789abcdef") == ""
}

// Message returns the message that makes the report: a CloudEvent in binary mode
// from source, made at now. The id, which is also the message id, distinguishes it
// from the source's other events. subject is the [HeaderReport] of the message
// that the worker has.
func (r Report) Message(subject, source, id string, now time.Time) (*nats.Msg, error) {
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("the report on operation %s: %w", clip(r.ID, 80), err)
	}
	e := event.New()
	e.SetID(id)
	e.SetSource(source)
	e.SetType(TypeReport)
	e.SetTime(now.UTC())
	if tokens := lastTokens(subject, 2); tokens != nil {
		e.SetExtension("service", tokens[0])
		e.SetExtension("operation", tokens[1])
	}
	if err := e.SetData(event.ApplicationJSON, r); err != nil {
		return nil, fmt.Errorf("encoding the report on operation %s: %w", r.ID, err)
	}
	m, err := EncodeEvent(subject, &e)
	if err != nil {
		return nil, err
	}
	m.Header[jetstream.MsgIDHeader] = []string{id}
	return m, nil
}
