package wire

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/plainjson"
)

// eventSource is the CloudEvents source of Rebound's events.
const eventSource = "/rebound"

// Event is one of Rebound's own events.
type Event struct {
	// Name is the event's name, such as [events.RetrySuccess].
	Name string
	// ID is also the message id, by which JetStream recognises duplicates.
	ID string
	// About identifies the operation. Its ID is empty for an event about a key.
	About events.About
	// Time is when it happened.
	Time time.Time
	// Data is encoded as the JSON data of the event, as encoding/json does it.
	Data any
}

// eventHeaders is how many headers an event has at most.
const eventHeaders = 12

// EncodeEvent returns the message that publishes e on subject: a CloudEvent in binary mode. It is
// written directly, because events are published for every operation; the CloudEvents SDK makes the
// same message.
func EncodeEvent(subject string, e Event) (*nats.Msg, error) {
	body, err := encodeData(e.Data)
	if err != nil {
		return nil, fmt.Errorf("encoding event %s of operation %s: %w", e.Name, e.About.ID, err)
	}
	key := percentEncode(events.Key(e.About.Service, e.About.Operation))
	service, operation, _ := strings.Cut(key, ":")
	h := newHeaders(eventHeaders)
	h.set(headerContentType, event.ApplicationJSON)
	h.set(headerSpecVersion, event.CloudEventsVersionV1)
	h.set(headerEventID, percentEncode(e.ID))
	h.set(headerSource, eventSource)
	h.set(headerType, events.EventType(e.Name))
	h.set(headerSubject, key)
	if !e.Time.IsZero() {
		h.set(headerTime, formatTime(e.Time))
	}
	h.set(headerService, service)
	h.set(headerOperation, operation)
	if e.About.ID != "" {
		h.set(headerOperationID, e.About.ID)
		h.set(events.HeaderID, e.About.ID)
	}
	h.set(jetstream.MsgIDHeader, e.ID)
	return &nats.Msg{Subject: subject, Header: h.Header, Data: body}, nil
}

// encodeData returns the JSON of an event's data. What is published for every operation is written
// without reflection.
func encodeData(data any) ([]byte, error) {
	switch v := data.(type) {
	case *events.Scheduled:
		return plainjson.Bytes(plainjson.HTML, v, scheduledFields)
	case *events.Outcome:
		return plainjson.Bytes(plainjson.HTML, v, outcomeFields)
	}
	return json.Marshal(data)
}

// EncodeBackpressure returns the message that publishes a change of global backpressure.
func EncodeBackpressure(subjects events.Subjects, c *events.BackpressureChange) (*nats.Msg, error) {
	return EncodeEvent(subjects.Backpressure(), Event{
		Name: events.BackpressureChanged, ID: c.By + "." + strconv.FormatInt(c.Since.UnixMilli(), 36) + "." + events.BackpressureChanged,
		About: events.AboutAll, Time: c.Since, Data: c,
	})
}
