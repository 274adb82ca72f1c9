package events

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/binding/spec"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// eventSource is the CloudEvents source of every event of ours.
const eventSource = "/rebound"

// EventType returns the CloudEvents type of one of our events by its name,
// such as rebound.retrySuccess.v1.
func EventType(name string) string { return "rebound." + name + ".v1" }

// Encode returns the message that publishes one of our events: a CloudEvent in
// binary mode. The id is also the message id by which JetStream recognises a
// repeat. An event about a key and no operation has no id in about.
func Encode(subject, name, id string, about About, at time.Time, data any) (*nats.Msg, error) {
	body, err := json.Marshal(data)
	if err != nil {
		return nil, fmt.Errorf("encoding event %s of operation %s: %w", name, about.ID, err)
	}
	e := event.New()
	e.SetID(id)
	e.SetSource(eventSource)
	e.SetType(EventType(name))
	e.SetSubject(about.Service + ":" + about.Operation)
	e.SetTime(at.UTC())
	e.SetExtension("service", about.Service)
	e.SetExtension("operation", about.Operation)
	if about.ID != "" {
		e.SetExtension("operationid", about.ID)
	}
	if err := e.SetData(event.ApplicationJSON, json.RawMessage(body)); err != nil {
		return nil, fmt.Errorf("encoding event %s of operation %s: %w", name, about.ID, err)
	}
	m, err := EncodeEvent(subject, &e)
	if err != nil {
		return nil, err
	}
	if about.ID != "" {
		m.Header[HeaderID] = []string{about.ID}
	}
	m.Header[jetstream.MsgIDHeader] = []string{id}
	return m, nil
}

// EncodeEvent returns the message that carries a CloudEvent in binary mode to
// subject. Attribute values are percent-encoded where the NATS protocol binding
// asks for it; the data is not touched.
func EncodeEvent(subject string, e *event.Event) (*nats.Msg, error) {
	m := nats.NewMsg(subject)
	if err := binding.ToMessage(e).ReadBinary(context.Background(), &writer{m}); err != nil {
		return nil, fmt.Errorf("encoding event %s: %w", clip(e.ID(), 80), err)
	}
	return m, nil
}

// writer receives a CloudEvent from the SDK into a NATS message.
type writer struct{ msg *nats.Msg }

// Start implements binding.BinaryWriter.
func (w *writer) Start(context.Context) error { return nil }

// End implements binding.BinaryWriter.
func (w *writer) End(context.Context) error { return nil }

// SetAttribute implements binding.BinaryWriter.
func (w *writer) SetAttribute(attribute spec.Attribute, value any) error {
	if attribute.Kind() == spec.DataContentType {
		return w.set(headerContentType, value)
	}
	return w.set(headerCloudEvents+attribute.Name(), value)
}

// SetExtension implements binding.BinaryWriter.
func (w *writer) SetExtension(name string, value any) error {
	return w.set(headerCloudEvents+name, value)
}

// SetData implements binding.BinaryWriter.
func (w *writer) SetData(data io.Reader) (err error) {
	w.msg.Data, err = io.ReadAll(data)
	return err
}

func (w *writer) set(name string, value any) error {
	if value == nil {
		delete(w.msg.Header, name)
		return nil
	}
	s, err := types.Format(value)
	if err != nil {
		return fmt.Errorf("attribute %s: %w", name, err)
	}
	w.msg.Header[name] = []string{percentEncode(s)}
	return nil
}

// percentEncode encodes what the CloudEvents HTTP binding, to which the NATS
// binding refers, wants encoded in a header: everything but printable ASCII,
// and of that the percent sign and the double quote.
func percentEncode(s string) string {
	plain := func(c byte) bool { return c >= ' ' && c < 0x7f && c != '%' && c != '"' }
	i := 0
	for i < len(s) && plain(s[i]) {
		i++
	}
	if i == len(s) {
		return s
	}
	var b strings.Builder
	b.WriteString(s[:i])
	for ; i < len(s); i++ {
		if plain(s[i]) {
			b.WriteByte(s[i])
		} else {
			fmt.Fprintf(&b, "%%%02X", s[i])
		}
	}
	return b.String()
}

// percentDecode is the reverse, lenient with what was never encoded.
func percentDecode(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	if decoded, err := url.PathUnescape(s); err == nil {
		return decoded
	}
	return s
}

// Attributes adds to h the CloudEvents attributes of a bare submission, so that
// its target receives a CloudEvent like any other. A submission that is one
// already keeps its headers as they are.
func (o *Operation) Attributes(h nats.Header) {
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
	// A value that the SDK refuses was refused when the submission was decoded.
	if err := binding.ToMessage(&e).ReadBinary(context.Background(), &writer{w}); err != nil {
		return
	}
	for k, v := range w.Header {
		if header(h, k) == "" {
			h[k] = v
		}
	}
}
