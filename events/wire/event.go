package wire

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
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
	// Data is encoded as the JSON data of the event.
	Data any
}

// EncodeEvent returns the message that publishes e on subject: a CloudEvent in binary mode.
func EncodeEvent(subject string, e Event) (*nats.Msg, error) {
	body, err := json.Marshal(e.Data)
	if err != nil {
		return nil, fmt.Errorf("encoding event %s of operation %s: %w", e.Name, e.About.ID, err)
	}
	c := event.New()
	c.SetID(e.ID)
	c.SetSource(eventSource)
	c.SetType(events.EventType(e.Name))
	c.SetSubject(events.Key(e.About.Service, e.About.Operation))
	c.SetTime(e.Time.UTC())
	c.SetExtension("service", e.About.Service)
	c.SetExtension("operation", e.About.Operation)
	if e.About.ID != "" {
		c.SetExtension("operationid", e.About.ID)
	}
	if err := c.SetData(event.ApplicationJSON, json.RawMessage(body)); err != nil {
		return nil, fmt.Errorf("encoding event %s of operation %s: %w", e.Name, e.About.ID, err)
	}
	m, err := EncodeCloudEvent(subject, &c)
	if err != nil {
		return nil, err
	}
	if e.About.ID != "" {
		m.Header[events.HeaderID] = []string{e.About.ID}
	}
	m.Header[jetstream.MsgIDHeader] = []string{e.ID}
	return m, nil
}

// EncodeBackpressure returns the message that publishes a change of global backpressure.
func EncodeBackpressure(subjects events.Subjects, c *events.BackpressureChange) (*nats.Msg, error) {
	return EncodeEvent(subjects.Backpressure(), Event{
		Name: events.BackpressureChanged, ID: c.By + "." + strconv.FormatInt(c.Since.UnixMilli(), 36) + "." + events.BackpressureChanged,
		About: events.AboutAll, Time: c.Since, Data: c,
	})
}
