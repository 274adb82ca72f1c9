package wire

import (
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/clip"
	"github.com/rebound-mq/rebound/internal/plainjson"
)

// PutState writes the state of an operation, and its Work if any, into a header.
func PutState(o *events.Operation, h nats.Header) error {
	state, err := plainjson.String(plainjson.Plain, o, operationFields)
	if err != nil {
		return fmt.Errorf("encoding the state of operation %s: %w", o.ID, err)
	}
	h[events.HeaderState] = []string{state}
	if o.Work != nil {
		return putWork(o.Work, h)
	}
	return nil
}

// ReadState reads what [PutState] wrote.
func ReadState(h nats.Header) (*events.Operation, error) {
	state := HeaderValue(h, events.HeaderState)
	if state == "" {
		return nil, fmt.Errorf("message has no %s header", events.HeaderState)
	}
	o, err := decodeState(state)
	if err != nil {
		return nil, fmt.Errorf("decoding the %s header: %w", events.HeaderState, err)
	}
	switch {
	case o.ID == "" || o.Attempt < 0 || o.Attempt == 0 && o.Replay == 0:
		return nil, fmt.Errorf("%s header is incomplete: it has id %q and attempt %d", events.HeaderState, clip.Text(o.ID, 80), o.Attempt)
	case events.CheckName(o.ID) != nil || o.Attempt > math.MaxInt32 || o.Replay < 0 || o.Replay > math.MaxInt32 || o.Omitted < 0:
		// The id becomes a token of subjects.
		return nil, fmt.Errorf("%s header has the id %q, attempt %d of run %d, which no operation has", events.HeaderState, clip.Text(o.ID, 80), o.Attempt, o.Replay)
	case events.CheckName(o.Service) != nil || events.CheckName(o.Operation) != nil:
		return nil, fmt.Errorf("%s header names no valid service and operation type", events.HeaderState)
	}
	if o.Work, err = readWork(h); err != nil {
		return nil, err
	}
	return o, nil
}

// decodeState reads a state. What another version of Rebound may have written, and rare fields, are
// left to encoding/json.
func decodeState(state string) (*events.Operation, error) {
	o := new(events.Operation)
	if plainjson.Read(state, o, operationFields) {
		// The names outlive the message in many a map, which must not keep its whole state.
		names := o.Service + o.Operation
		o.Service, o.Operation = names[:len(o.Service)], names[len(o.Service):]
		return o, nil
	}
	*o = events.Operation{}
	return o, json.Unmarshal([]byte(state), o)
}

// TargetHeader returns the headers that a target receives with an attempt: those of the
// submission, its CloudEvents attributes, and the Retry- headers.
func TargetHeader(o *events.Operation, submission nats.Header, attempt int, repeated bool) nats.Header {
	h := headers{carriedHeader(submission, targetHeaders), make([]string, 0, targetHeaders)}
	addAttributes(o, &h)
	h.set(events.HeaderID, o.ID)
	h.set(events.HeaderAttempt, strconv.Itoa(attempt))
	h.set(events.HeaderFirstFailure, formatTime(o.FirstFailure))
	if !o.Deadline.IsZero() {
		h.set(events.HeaderDeadline, formatTime(o.Deadline))
	}
	if o.Replay > 0 {
		h.set(events.HeaderReplay, strconv.Itoa(o.Replay))
	}
	if repeated {
		h.set(events.HeaderRepeated, "true")
	}
	putOrigin(o.Origin, h.Header)
	return h.Header
}

// targetHeaders is how many headers a target receives at most besides those of the submission,
// unless the operation was adopted.
const targetHeaders = 12

// putWork writes the work into a header.
func putWork(w *events.Work, h nats.Header) error {
	text, err := plainjson.String(plainjson.HTML, w, workFields)
	if err != nil {
		return fmt.Errorf("encoding the work: %w", err)
	}
	h[events.HeaderWork] = []string{text}
	return nil
}

// readWork reads what [putWork] wrote, nil if there is none.
func readWork(h nats.Header) (*events.Work, error) {
	text := HeaderValue(h, events.HeaderWork)
	if text == "" {
		return nil, nil
	}
	w := new(events.Work)
	if !plainjson.Read(text, w, workFields) {
		*w = events.Work{}
		if err := json.Unmarshal([]byte(text), w); err != nil {
			return nil, fmt.Errorf("decoding the %s header: %w", events.HeaderWork, err)
		}
	}
	if w.Token == "" || w.Attempt < 1 || w.Attempt > math.MaxInt32 {
		return nil, fmt.Errorf("%s header is incomplete", events.HeaderWork)
	}
	return w, nil
}

// WorkHeader returns the headers that a worker receives: those of every target, and those for its
// reports. timeout is how long the worker may be silent.
func WorkHeader(o *events.Operation, submission nats.Header, subjects events.Subjects, timeout time.Duration) nats.Header {
	h := TargetHeader(o, submission, o.Work.Attempt, o.Work.Attempt <= o.Repeats)
	h[events.HeaderToken] = []string{o.Work.Token}
	h[events.HeaderReport] = []string{subjects.Report(o.Service, o.Operation)}
	h[events.HeaderTimeout] = []string{strconv.FormatInt(timeout.Milliseconds(), 10)}
	h[jetstream.MsgIDHeader] = []string{o.Run() + "." + strconv.Itoa(o.Work.Attempt) + ".work"}
	return h
}

// putOrigin writes the origin into a header; a nil one writes nothing.
func putOrigin(o *events.Origin, h nats.Header) {
	if o == nil {
		return
	}
	h[events.HeaderOriginStream] = []string{o.Stream}
	h[events.HeaderOriginConsumer] = []string{o.Consumer}
	h[events.HeaderOriginSequence] = []string{strconv.FormatUint(o.Sequence, 10)}
	if !o.Gone() {
		h[events.HeaderOriginSubject] = []string{o.Subject}
	}
}

// AddAttributes adds the CloudEvents attributes of a bare submission to h, so that its target
// receives a CloudEvent like any other. It leaves the headers of a CloudEvent unchanged.
func AddAttributes(o *events.Operation, h nats.Header) {
	addAttributes(o, &headers{Header: h})
}

func addAttributes(o *events.Operation, h *headers) {
	set := h.set
	if hasAttributes(h.Header) {
		if m := (message{header: h.Header}); m.ReadEncoding() != binding.EncodingUnknown {
			return
		}
		set = h.setAbsent
	}
	set(headerSpecVersion, event.CloudEventsVersionV1)
	set(headerEventID, percentEncode(strings.TrimSpace(o.EventID)))
	set(headerSource, percentEncode(uriReference(o.Source)))
	set(headerType, percentEncode(strings.TrimSpace(o.Type)))
	set(headerService, percentEncode(o.Service))
	set(headerOperation, percentEncode(o.Operation))
}

// hasAttributes reports whether h has a header by which a CloudEvent is recognised or described.
func hasAttributes(h nats.Header) bool {
	for k := range h {
		if hasPrefixFold(k, headerCloudEvents) || strings.EqualFold(k, headerContentType) {
			return true
		}
	}
	return false
}

// uriReference returns a source as the CloudEvents SDK spells it: with what may not stand in a URI
// escaped, and empty if it is none.
func uriReference(source string) string {
	if isPath(source) {
		return source
	}
	u, err := url.Parse(source)
	if err != nil {
		return ""
	}
	return u.String()
}

// isPath reports whether s is a path with nothing to escape.
func isPath(s string) bool {
	if s == "" || s[0] != '/' || strings.HasPrefix(s, "//") { // which begins a host
		return false
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '/', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}
