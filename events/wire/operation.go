package wire

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/clip"
)

// PutState writes the state of an operation, and its Work if any, into a header.
func PutState(o *events.Operation, h nats.Header) error {
	var state strings.Builder
	enc := json.NewEncoder(&state)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(o); err != nil {
		return fmt.Errorf("encoding the state of operation %s: %w", o.ID, err)
	}
	h[events.HeaderState] = []string{strings.TrimSuffix(state.String(), "\n")}
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
	o := new(events.Operation)
	if err := json.Unmarshal([]byte(state), o); err != nil {
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
	var err error
	if o.Work, err = readWork(h); err != nil {
		return nil, err
	}
	return o, nil
}

// TargetHeader returns the headers that a target receives with an attempt: those of the
// submission, its CloudEvents attributes, and the Retry- headers.
func TargetHeader(o *events.Operation, submission nats.Header, attempt int, repeated bool) nats.Header {
	h := CarriedHeader(submission)
	AddAttributes(o, h)
	h.Set(events.HeaderID, o.ID)
	h.Set(events.HeaderAttempt, strconv.Itoa(attempt))
	h.Set(events.HeaderFirstFailure, o.FirstFailure.UTC().Format(time.RFC3339Nano))
	if !o.Deadline.IsZero() {
		h.Set(events.HeaderDeadline, o.Deadline.UTC().Format(time.RFC3339Nano))
	}
	if o.Replay > 0 {
		h.Set(events.HeaderReplay, strconv.Itoa(o.Replay))
	}
	if repeated {
		h.Set(events.HeaderRepeated, "true")
	}
	putOrigin(o.Origin, h)
	return h
}

// putWork writes the work into a header.
func putWork(w *events.Work, h nats.Header) error {
	text, err := json.Marshal(w)
	if err != nil {
		return fmt.Errorf("encoding the work: %w", err)
	}
	h[events.HeaderWork] = []string{string(text)}
	return nil
}

// readWork reads what [putWork] wrote, nil if there is none.
func readWork(h nats.Header) (*events.Work, error) {
	text := HeaderValue(h, events.HeaderWork)
	if text == "" {
		return nil, nil
	}
	w := new(events.Work)
	if err := json.Unmarshal([]byte(text), w); err != nil {
		return nil, fmt.Errorf("decoding the %s header: %w", events.HeaderWork, err)
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
	m := message{header: h}
	if m.ReadEncoding() != binding.EncodingUnknown {
		return
	}
	e := event.New()
	e.SetID(o.EventID)
	e.SetSource(o.Source)
	e.SetType(o.Type)
	e.SetExtension("service", o.Service)
	e.SetExtension("operation", o.Operation)
	w := nats.NewMsg("")
	// Values that the SDK refuses were rejected when the submission was decoded.
	if err := binding.ToMessage(&e).ReadBinary(context.Background(), &writer{w}); err != nil {
		return
	}
	for k, v := range w.Header {
		if HeaderValue(h, k) == "" {
			h[k] = v
		}
	}
}
