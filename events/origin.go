package events

import (
	"strconv"

	"github.com/nats-io/nats.go"
)

// Origin says where an operation comes from that no service submitted: a message
// that a JetStream consumer gave up.
type Origin struct {
	Stream   string `json:"stream"`
	Consumer string `json:"consumer"`
	// Sequence is the message's in its stream.
	Sequence uint64 `json:"sequence"`
	// Subject is the one that the message was published on, empty when the
	// message was gone before it could be read.
	Subject string `json:"subject,omitempty"`
}

// Gone reports whether the message was no longer in its stream, so that its
// payload is lost.
func (o *Origin) Gone() bool { return o.Subject == "" }

// put writes the origin into a header; a nil one writes nothing.
func (o *Origin) put(h nats.Header) {
	if o == nil {
		return
	}
	h[HeaderOriginStream] = []string{o.Stream}
	h[HeaderOriginConsumer] = []string{o.Consumer}
	h[HeaderOriginSequence] = []string{strconv.FormatUint(o.Sequence, 10)}
	if !o.Gone() {
		h[HeaderOriginSubject] = []string{o.Subject}
	}
}
