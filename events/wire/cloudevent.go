package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/binding/format"
	"github.com/cloudevents/sdk-go/v2/binding/spec"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/clip"
	"github.com/rebound-mq/rebound/internal/strictjson"
)

// Envelope holds the CloudEvents attributes that every event has.
type Envelope struct {
	Source string
	// ID distinguishes the event from others of its source.
	ID string
	// Time is when the event was made.
	Time time.Time
}

// event returns an event of the given type.
func (v Envelope) event(eventType string) event.Event {
	e := event.New()
	e.SetID(v.ID)
	e.SetSource(v.Source)
	e.SetType(eventType)
	e.SetTime(v.Time.UTC())
	return e
}

// EncodeCloudEvent returns the message that carries a CloudEvent to subject in binary mode.
// Attribute values are percent-encoded as the NATS protocol binding requires; the data is
// unchanged.
func EncodeCloudEvent(subject string, e *event.Event) (*nats.Msg, error) {
	m := nats.NewMsg(subject)
	if err := binding.ToMessage(e).ReadBinary(context.Background(), &writer{m}); err != nil {
		return nil, fmt.Errorf("encoding event %s: %w", clip.Text(e.ID(), 80), err)
	}
	return m, nil
}

// writer writes a CloudEvent from the SDK to a NATS message.
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

// percentEncode encodes an attribute for a header. The NATS binding refers to the HTTP binding,
// which requires this for everything but printable ASCII, and for the percent sign and the double
// quote.
func percentEncode(s string) string {
	plain := func(c byte) bool { return c >= ' ' && c < 0x7f && c != '%' && c != '"' }
	i := 0
	for i < len(s) && plain(s[i]) {
		i++
	}
	if i == len(s) {
		return s
	}
	const digits = "0123456789ABCDEF"
	encoded := append(make([]byte, 0, 3*len(s)), s[:i]...)
	for ; i < len(s); i++ {
		if c := s[i]; plain(c) {
			encoded = append(encoded, c)
		} else {
			encoded = append(encoded, '%', digits[c>>4], digits[c&0xf])
		}
	}
	return string(encoded)
}

// percentDecode reverses percentEncode. It returns a value that is not validly encoded unchanged.
func percentDecode(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	if decoded, err := url.PathUnescape(s); err == nil {
		return decoded
	}
	return s
}

// message lets the CloudEvents SDK read a NATS message. Attribute headers are matched in any
// letter case and percent-decoded, as the NATS protocol binding requires.
type message struct {
	header nats.Header
	data   []byte
}

const (
	headerContentType = "content-type"
	headerCloudEvents = "ce-"

	// The headers of the attributes that Rebound writes itself.
	headerSpecVersion = "ce-specversion"
	headerEventID     = "ce-id"
	headerSource      = "ce-source"
	headerType        = "ce-type"
	headerSubject     = "ce-subject"
	headerTime        = "ce-time"
	headerService     = "ce-service"
	headerOperation   = "ce-operation"
	headerOperationID = "ce-operationid"
)

var versions = spec.WithPrefix(headerCloudEvents)

func (m *message) version() spec.Version {
	return versions.Version(HeaderValue(m.header, versions.PrefixedSpecVersionName()))
}

// event reads the CloudEvent.
func (m *message) event() (*event.Event, error) {
	if m.ReadEncoding() == binding.EncodingStructured {
		return m.structured()
	}
	return binding.ToEvent(context.Background(), m)
}

// structured reads an envelope. It turns panics of the SDK's JSON reader, which happen on some
// malformed envelopes such as a data_base64 that is not a string, into errors.
func (m *message) structured() (e *event.Event, err error) {
	defer func() {
		if recover() != nil {
			e, err = nil, errors.New("the envelope is malformed")
		}
	}()
	if !json.Valid(m.data) {
		return nil, errors.New("the envelope is not valid JSON")
	}
	members, err := strictjson.Members(m.data)
	if err != nil {
		return nil, fmt.Errorf("the envelope: %w", err)
	}
	data, err := withNormalTime(m.data, members)
	if err != nil {
		return nil, err
	}
	return binding.ToEvent(context.Background(), &message{header: m.header, data: data})
}

// withNormalTime returns an envelope, given with its members, whose time is in the one spelling
// that the SDK reads.
func withNormalTime(envelope []byte, members map[string]json.RawMessage) ([]byte, error) {
	raw := members["time"]
	if len(raw) == 0 || raw[0] != '"' {
		return envelope, nil // there is none, or the SDK says what is wrong with it
	}
	var value string
	if err := json.Unmarshal(raw, &value); err != nil {
		return nil, fmt.Errorf("attribute time: %w", err)
	}
	normal, err := normalTime(value)
	if err != nil {
		return nil, fmt.Errorf("attribute time %w", err)
	}
	if normal == value {
		return envelope, nil
	}
	if members["time"], err = json.Marshal(normal); err != nil {
		return nil, err
	}
	return json.Marshal(members)
}

// ReadEncoding implements binding.MessageReader.
func (m *message) ReadEncoding() binding.Encoding {
	contentType := strings.ToLower(HeaderValue(m.header, headerContentType))
	switch {
	case strings.HasPrefix(contentType, event.ApplicationCloudEventsBatchJSON):
		return binding.EncodingBatch
	case format.IsFormat(contentType):
		return binding.EncodingStructured
	case HeaderValue(m.header, versions.PrefixedSpecVersionName()) != "":
		return binding.EncodingBinary
	}
	return binding.EncodingUnknown
}

// ReadStructured implements binding.MessageReader.
func (m *message) ReadStructured(ctx context.Context, w binding.StructuredWriter) error {
	f := format.Lookup(strings.ToLower(HeaderValue(m.header, headerContentType)))
	if f == nil {
		return binding.ErrNotStructured
	}
	return w.SetStructuredEvent(ctx, f, bytes.NewReader(m.data))
}

// ReadBinary implements binding.MessageReader. It omits the data.
func (m *message) ReadBinary(_ context.Context, w binding.BinaryWriter) error {
	version := m.version()
	if version == nil {
		return fmt.Errorf("specversion %q is not known", clip.Text(HeaderValue(m.header, versions.PrefixedSpecVersionName()), 80))
	}
	for name, value := range m.attributes() {
		var err error
		if attribute := version.Attribute(headerCloudEvents + name); attribute != nil {
			if attribute.Kind() == spec.Time {
				if value, err = normalTime(value); err != nil {
					return fmt.Errorf("attribute time %w", err)
				}
			}
			err = w.SetAttribute(attribute, value)
		} else {
			err = w.SetExtension(name, value)
		}
		if err != nil {
			return fmt.Errorf("attribute %s: %w", clip.Text(name, 80), err)
		}
	}
	if contentType := HeaderValue(m.header, headerContentType); contentType != "" {
		return w.SetAttribute(version.AttributeFromKind(spec.DataContentType), contentType)
	}
	return nil
}

// normalTime returns an RFC 3339 time in the one spelling that the SDK reads.
func normalTime(value string) (string, error) {
	if value == "" {
		return value, nil
	}
	at, err := events.ParseTime(value)
	return at.Format(time.RFC3339Nano), err
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
	if value := HeaderValue(m.header, attribute.PrefixedName()); value != "" {
		return attribute, percentDecode(value)
	}
	return attribute, nil
}

// GetExtension implements binding.MessageMetadataReader.
func (m *message) GetExtension(name string) any {
	if value := HeaderValue(m.header, headerCloudEvents+name); value != "" {
		return percentDecode(value)
	}
	return nil
}

// Finish implements binding.Message.
func (m *message) Finish(error) error { return nil }

// attributes returns the ce- headers by lower-case name without the prefix, nil if there are none.
func (m *message) attributes() map[string]string {
	var out map[string]string
	for k, v := range m.header {
		if len(v) == 0 || !hasPrefixFold(k, headerCloudEvents) {
			continue
		}
		if out == nil {
			out = make(map[string]string, len(m.header))
		}
		name, value := strings.ToLower(k[len(headerCloudEvents):]), v[0]
		if _, twice := out[name]; twice {
			value = HeaderValue(m.header, headerCloudEvents+name)
		}
		out[name] = percentDecode(value)
	}
	return out
}

// sanitised removes payload excerpts from an error of the decoder: JSON decoders quote their
// input.
func sanitised(err error) error {
	text := err.Error()
	if i := strings.Index(text, ", error found in"); i >= 0 {
		text = text[:i]
	}
	if i := strings.Index(text, "|..."); i >= 0 {
		text = text[:i]
	}
	return errors.New(clip.Text(text, 400))
}

var (
	_ binding.Message               = (*message)(nil)
	_ binding.MessageMetadataReader = (*message)(nil)
)
