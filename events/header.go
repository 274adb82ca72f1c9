package events

import (
	"strings"

	"github.com/nats-io/nats.go"
)

// The headers that Rebound reads and writes.
const (
	// HeaderState carries the state of an operation from step to step. It
	// never reaches a target.
	HeaderState = "Retry-State"
	// HeaderWork carries, beside it, the attempt that a worker makes.
	HeaderWork = "Retry-Work"

	// What a target finds on a redelivered operation.
	HeaderID           = "Retry-Id"
	HeaderAttempt      = "Retry-Attempt"
	HeaderFirstFailure = "Retry-First-Failure"
	HeaderDeadline     = "Retry-Deadline"
	// HeaderRepeated is "true" when the same attempt may have reached the
	// target before, because the instance that made it died.
	HeaderRepeated = "Retry-Repeated"
	// HeaderReplay is how often the operation was replayed from the dead
	// letters.
	HeaderReplay = "Retry-Replay"

	// What a worker finds besides, to report with: a token that nobody else
	// knows, the subject to report on, and for how many milliseconds it may be
	// silent.
	HeaderToken   = "Retry-Token"
	HeaderReport  = "Retry-Report"
	HeaderTimeout = "Retry-Timeout"
	// HeaderResult says in a report that consists of headers how the attempt
	// goes; see [Result].
	HeaderResult = "Retry-Result"

	// Where an operation comes from that no service submitted; see [Origin].
	HeaderOriginStream   = "Retry-Origin-Stream"
	HeaderOriginConsumer = "Retry-Origin-Consumer"
	HeaderOriginSequence = "Retry-Origin-Sequence"
	HeaderOriginSubject  = "Retry-Origin-Subject"

	// HeaderReason says on a dead letter why the operation ended.
	HeaderReason = "Retry-Reason"
	// HeaderDetail says it in a sentence.
	HeaderDetail = "Retry-Detail"
	// HeaderDeadSequence names, on a replay, the dead letter that it replays
	// by its sequence in the stream of dead letters.
	HeaderDeadSequence = "Retry-Dead-Sequence"

	// What a target may answer with.
	HeaderRetryAfter = "Retry-After"

	// HeaderTraceParent is that of W3C Trace Context.
	HeaderTraceParent = "traceparent"

	headerContentType = "content-type"
	headerCloudEvents = "ce-"
)

// HeaderValue returns the first value of a header, whatever the letter case of its
// name: NATS headers keep the case of the sender. Of several that differ in nothing
// else it is the one that is written as name, else the first in the order of bytes.
func HeaderValue(h nats.Header, name string) string {
	if v := h[name]; len(v) > 0 {
		return v[0]
	}
	found := ""
	for k, v := range h {
		if len(v) > 0 && (found == "" || k < found) && strings.EqualFold(k, name) {
			found = k
		}
	}
	if found == "" {
		return ""
	}
	return h[found][0]
}

func header(h nats.Header, name string) string { return HeaderValue(h, name) }

// carried reports whether a header of a submission goes along with the
// operation. What JetStream and Rebound put there does not.
func carried(name string) bool {
	return !hasPrefixFold(name, "Nats-") && !hasPrefixFold(name, "Retry-")
}

// CarriedHeader returns a copy of the headers that go along with an
// operation: all but those of JetStream and of Rebound.
func CarriedHeader(h nats.Header) nats.Header {
	out := make(nats.Header, len(h)+8)
	for k, v := range h {
		if carried(k) {
			out[k] = v
		}
	}
	return out
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// headerSize returns the bytes that a header takes on the wire.
func headerSize(h nats.Header) int {
	n := 0
	for k, values := range h {
		for _, v := range values {
			n += len(k) + len(v) + len(": \r\n")
		}
	}
	return n
}
