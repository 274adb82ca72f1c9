package events

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
