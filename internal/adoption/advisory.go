package adoption

import (
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// The types of advisory for a message given up.
const (
	typeMaxDeliveries = "io.nats.jetstream.advisory.v1.max_deliver"
	typeTerminated    = "io.nats.jetstream.advisory.v1.terminated"
)

// The codes of the failures behind advisories, for policies to classify.
const (
	// CodeMaxDeliveries: the message was delivered as often as the consumer
	// allows.
	CodeMaxDeliveries = "max_deliveries"
	// CodeTerminated: the worker ended the message, or the stream removed it
	// before it was acknowledged.
	CodeTerminated = "terminated"
)

// Advisory says that a consumer gave a message up.
type Advisory struct {
	// ID is the advisory's id.
	ID string
	// Code is [CodeMaxDeliveries] or [CodeTerminated].
	Code     string
	Stream   string
	Consumer string
	// Sequence is the message's sequence in its stream.
	Sequence uint64
	// Deliveries is how often the message was delivered, at least 1.
	Deliveries int
	// Reason is the worker's reason, empty for none.
	Reason string
	Time   time.Time
}

// ParseAdvisory reads an advisory of the server.
func ParseAdvisory(data []byte) (Advisory, error) {
	var wire struct {
		Type       string    `json:"type"`
		ID         string    `json:"id"`
		Time       time.Time `json:"timestamp"`
		Stream     string    `json:"stream"`
		Consumer   string    `json:"consumer"`
		StreamSeq  uint64    `json:"stream_seq"`
		Deliveries uint32    `json:"deliveries"`
		Reason     string    `json:"reason"`
	}
	if err := json.Unmarshal(data, &wire); err != nil {
		return Advisory{}, fmt.Errorf("reading an advisory of JetStream: %w", err)
	}
	a := Advisory{
		ID: wire.ID, Stream: wire.Stream, Consumer: wire.Consumer, Sequence: wire.StreamSeq,
		Deliveries: int(max(min(wire.Deliveries, math.MaxInt32), 1)), Reason: wire.Reason, Time: wire.Time.UTC(),
	}
	switch wire.Type {
	case typeMaxDeliveries:
		a.Code = CodeMaxDeliveries
	case typeTerminated:
		a.Code = CodeTerminated
	default:
		return Advisory{}, fmt.Errorf("an advisory of type %.100q tells of no message that was given up", wire.Type)
	}
	if checkName("stream", a.Stream) != nil || checkName("consumer", a.Consumer) != nil || a.Sequence == 0 || a.ID == "" || a.Time.IsZero() || a.Time.Year() > 9999 {
		return Advisory{}, fmt.Errorf("an advisory of type %s is incomplete", wire.Type)
	}
	return a, nil
}

// Says describes in a sentence how the consumer gave the message up.
func (a Advisory) Says() string {
	times := fmt.Sprintf("after %d deliveries", a.Deliveries)
	if a.Deliveries == 1 {
		times = "after 1 delivery"
	}
	switch {
	case a.Code == CodeMaxDeliveries:
		return fmt.Sprintf("consumer %s gave it up %s", a.Consumer, times)
	case a.Reason != "":
		return fmt.Sprintf("consumer %s terminated it %s: %s", a.Consumer, times, a.Reason)
	}
	return fmt.Sprintf("consumer %s terminated it %s", a.Consumer, times)
}
