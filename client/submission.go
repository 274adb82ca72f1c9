package client

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
)

// Submission is an operation that failed and should be redelivered to its target. Service and
// Operation are required.
type Submission struct {
	// Service and Operation make the key, service:operation; [events.CheckName] says which names
	// are valid.
	Service, Operation string
	// Data is the payload, which Rebound never reads. ContentType is its media type, guessed from
	// Data when empty; a CloudEvent is refused.
	Data        []byte
	ContentType string
	// Header is redelivered with the payload. Content-Type, names that begin with ce-, and those of
	// [events.OwnHeaders] and [events.ServerHeaders] are refused.
	Header nats.Header

	// EventID is the CloudEvents id, a new one when empty. Source and EventID identify the
	// operation: a second submission merges with one that is already waiting.
	EventID string
	// Source is the CloudEvents source, [Config.Source] when empty.
	Source string
	// Subject is the CloudEvents subject; it may be empty.
	Subject string

	// Target is the NATS subject to redeliver to, the policy's target when empty.
	Target string
	// Delivery is how the operation reaches its target: by [events.Request], the default, or by
	// [events.Publish], for a [StreamWorker] or another consumer of a stream. Unless this or the
	// policy sets a target, the target of Publish is retry.work.<service>.<operation>.
	Delivery events.Delivery
	// Account, Campaign, Priority and Overrides are as in [Call].
	Account, Campaign string
	Priority          Priority
	Overrides         map[string]string

	// Attempt is the number of attempts made, 1 when 0.
	Attempt int
	// Err is the error of the last attempt. Its code, message and Retry-After are read as in
	// [Execute]. It may be nil.
	Err error
	// FirstFailure is when the first attempt failed, now when zero.
	FirstFailure time.Time
	// Deadline is when the operation becomes useless; zero is never.
	Deadline time.Time
	// TraceParent is the W3C trace context; it may be empty.
	TraceParent string
}

// Receipt identifies a stored submission, which can no longer be lost.
type Receipt struct {
	// ID is the operation's id, as in the Retry-Id header, outcomes and dead letters.
	ID string
	// EventID and Source are the CloudEvents attributes.
	EventID, Source string
	// Stream and Sequence locate the stored submission.
	Stream   string
	Sequence uint64
	// Duplicate reports whether the same submission was stored before.
	Duplicate bool
}

// message encodes a submission. The error is an [*events.RejectedError] if the service would
// reject it.
func (c *Client) message(s *Submission, now time.Time) (*nats.Msg, Receipt, error) {
	m, err := c.encode(s, now)
	if err != nil {
		return nil, Receipt{}, &events.RejectedError{Service: s.Service, Operation: s.Operation, Problem: err}
	}
	receipt, err := c.stamp(m, now)
	return m, receipt, err
}

// stamp checks a submission as the service does, sets the message id by which JetStream
// recognises duplicates, and returns the receipt without its place in the stream.
func (c *Client) stamp(m *nats.Msg, now time.Time) (Receipt, error) {
	op, err := wire.DecodeSubmission(c.subjects, wire.Submission{Subject: m.Subject, Header: m.Header, Data: m.Data, Received: now})
	if err != nil {
		return Receipt{}, err
	}
	m.Header[jetstream.MsgIDHeader] = []string{op.MessageID("submit")}
	wire.HideStatus(m)
	if size, limit := int64(m.Size()-len(m.Subject)), c.nc.MaxPayload(); limit > 0 && size > limit {
		return Receipt{}, &events.RejectedError{
			Service: op.Service, Operation: op.Operation,
			Problem: fmt.Errorf("the submission has %d bytes, more than the server's maximum of %d", size, limit),
		}
	}
	return Receipt{ID: op.ID, EventID: op.EventID, Source: op.Source}, nil
}

func (c *Client) encode(s *Submission, now time.Time) (*nats.Msg, error) {
	if err := checkOverrides(s.Overrides); err != nil {
		return nil, err
	}
	e := event.New()
	e.SetType(events.TypeFailed)
	if e.SetSource(s.Source); s.Source == "" {
		e.SetSource(c.source)
	}
	if e.SetID(s.EventID); s.EventID == "" {
		e.SetID(nuid.Next())
	}
	if s.Subject != "" {
		e.SetSubject(s.Subject)
	}
	first := s.FirstFailure
	if first.IsZero() {
		first = now
	}
	e.SetTime(first.UTC())
	for name, value := range s.attributes(now) {
		e.SetExtension(name, value)
	}
	if strings.HasPrefix(strings.ToLower(s.ContentType), "application/cloudevents") {
		return nil, errors.New("the payload cannot be a CloudEvent of its own, for it would be read as the operation's")
	}
	if len(s.Data) > 0 {
		if err := e.SetData(s.contentType(), s.Data); err != nil {
			return nil, fmt.Errorf("the payload: %w", err)
		}
	}
	m, err := wire.EncodeCloudEvent(c.subjects.Submit(s.Service, s.Operation), &e)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(s.Header)) {
		if lower := strings.ToLower(name); strings.HasPrefix(lower, "ce-") || lower == "content-type" || events.IsOwned(name) {
			return nil, fmt.Errorf("header %q is not for submissions", oneLine(name))
		}
		m.Header[name] = s.Header[name]
	}
	return m, nil
}

// attributes returns the CloudEvents extension attributes.
func (s *Submission) attributes(now time.Time) map[string]string {
	all := map[string]string{"service": s.Service, "operation": s.Operation, "attempt": strconv.Itoa(max(s.Attempt, 1))}
	set := func(name, value string) {
		if value != "" {
			all[name] = value
		}
	}
	set("target", s.Target)
	set("delivery", string(s.Delivery))
	set("accountid", s.Account)
	set("campaignid", s.Campaign)
	set("priority", string(s.Priority))
	set("traceparent", s.TraceParent)
	if !s.Deadline.IsZero() {
		set("deadline", s.Deadline.UTC().Format(time.RFC3339Nano))
	}
	for name, value := range overridden(s.Overrides) {
		set(name, value)
	}
	if s.Err != nil {
		f := failureOf(s.Err)
		set("errorcode", cut(f.Code, events.MaxCode))
		set("errormessage", f.Message)
		if f.RetryAfter > 0 {
			set("retryafter", now.Add(f.RetryAfter).UTC().Format(time.RFC3339Nano))
		}
	}
	return all
}

func (s *Submission) contentType() string {
	if s.ContentType != "" {
		return s.ContentType
	}
	return http.DetectContentType(s.Data)
}
