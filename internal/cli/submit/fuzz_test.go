package submit

import (
	"bytes"
	"strings"
	"testing"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
)

// FuzzParseSubmission reads any line as a submission. An accepted one is a CloudEvent
// that fits into a message.
func FuzzParseSubmission(f *testing.F) {
	for _, seed := range []string{
		`{"service":"billing","operation":"charge","data":{"amount":3},"priority":"high","attempt":2}`,
		`{"specversion":"1.0","id":"1","source":"/s","type":"rebound.operation.failed.v1","service":"a","operation":"b","data_base64":"eA=="}`,
		`{"service":"a","operation":"b","datacontenttype":"text/plain","data":"x"}`, `{"service":"a","operation":"b","data_base64":1}`, `{"service":"a","operation":"b","data_base64":"!"}`,
		`{"service":"a.b","operation":"b"}`, `{"service":"a"}`, `{}`, `null`, `[]`, ``, `{"service":"a","operation":"b","target":{"x":1}}`, `{"service":"a","operation":"b","time":"soon"}`,
		`{"service":"a","operation":"b","specversion":"9"}`, `{"service":"a","operation":"b"} {}`, `{"service":"a","SERVICE":"b","operation":"c"}`, `{"service":"a","operation":"b","ä":"x"}`,
		"{\"service\":\"a\",\"operation\":\"b\",\"subject\":\"\xff\"}", `{"service":"a","operation":"b","subject":null,"attempt":true}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := parseSubmission(text)
		if err != nil {
			if s != nil && s.event != nil && s.event.Validate() != nil {
				t.Fatalf("%q is refused with %+v", text, s)
			}
			return
		}
		if events.CheckName(s.service) != nil || events.CheckName(s.operation) != nil || s.event.Validate() != nil {
			t.Fatalf("%q is read as %+v", text, s)
		}
		m, err := wire.EncodeCloudEvent(events.Subjects{}.Submit(s.service, s.operation), s.event)
		if err != nil {
			t.Fatalf("%q is read as %+v, which no message carries: %v", text, s.event, err)
		}
		for name, values := range m.Header {
			if strings.ContainsAny(name+values[0], "\r\n") {
				t.Fatalf("header %q of %q has a line break: %q", name, text, values)
			}
		}
		if s.event.Data() == nil && len(m.Data) > 0 || s.event.SpecVersion() == event.CloudEventsVersionV1 && !bytes.Equal(m.Data, s.event.Data()) {
			t.Fatalf("the payload of %q is %q in the message, want %q", text, m.Data, s.event.Data())
		}
	})
}
