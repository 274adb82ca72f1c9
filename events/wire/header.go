package wire

import (
	"maps"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/events"
)

// headers makes headers with one value each.
type headers struct {
	nats.Header
	// values holds the values, so that they are allocated together.
	values []string
}

// newHeaders returns headers with room for n.
func newHeaders(n int) headers {
	return headers{make(nats.Header, n), make([]string, 0, n)}
}

// set sets a header unless the value is empty.
func (h *headers) set(name, value string) {
	if value == "" {
		return
	}
	h.values = append(h.values, value)
	last := len(h.values) - 1
	h.Header[name] = h.values[last : last+1 : last+1]
}

// setAbsent does the same unless the header has a value already, in any letter case.
func (h *headers) setAbsent(name, value string) {
	if HeaderValue(h.Header, name) == "" {
		h.set(name, value)
	}
}

// formatTime returns a time as headers have it.
func formatTime(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// HeaderValue returns the first value of a header in any letter case, because NATS headers keep
// the case of the sender. Of several that differ only in case it prefers the one spelt like name,
// then the first in byte order.
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

// SetHeader replaces a header, whatever the letter case of its name.
func SetHeader(h nats.Header, name, value string) {
	maps.DeleteFunc(h, func(k string, _ []string) bool { return strings.EqualFold(k, name) })
	h[name] = []string{value}
}

// MicroError returns the code and the text of the error in the reply of a NATS micro service,
// both empty if the reply is a success.
func MicroError(h nats.Header) (code, text string) {
	return HeaderValue(h, micro.ErrorCodeHeader), HeaderValue(h, micro.ErrorHeader)
}

// CarriedHeader returns a copy of the headers that are redelivered with an operation: all but
// those that Rebound or the NATS server owns, see [events.IsOwned]. What [HideStatus] has hidden
// is itself again.
func CarriedHeader(h nats.Header) nats.Header { return carriedHeader(h, stateHeaders) }

// stateHeaders is how many headers a stored operation has at most besides those of its submission.
const stateHeaders = 8

// carriedHeader returns the carried headers, with room for more.
func carriedHeader(h nats.Header, more int) nats.Header {
	n := 0
	for k := range h {
		if !events.IsOwned(k) {
			n++
		}
	}
	out := make(nats.Header, n+more)
	var hidden []string
	for k, v := range h {
		switch {
		case !events.IsOwned(k):
			out[k] = v
		case k == events.HeaderStatus, hidden == nil && strings.EqualFold(k, events.HeaderStatus):
			hidden = v
		}
	}
	if _, ok := out[events.HeaderServerStatus]; hidden != nil && !ok {
		out[events.HeaderServerStatus] = hidden
	}
	return out
}

// LooksLikeStatus reports whether nats.go takes a message for one by which the server answers a
// pull or a read. It drops such a message instead of delivering it.
func LooksLikeStatus(h nats.Header, data []byte) bool {
	return len(data) == 0 && len(h[events.HeaderServerStatus]) > 0
}

// HideStatus gives the header that makes a message look like a status another name, so that
// clients can read the message from a stream. [CarriedHeader] and [ShowStatus] take that back.
func HideStatus(m *nats.Msg) {
	if LooksLikeStatus(m.Header, m.Data) {
		m.Header[events.HeaderStatus] = m.Header[events.HeaderServerStatus]
		delete(m.Header, events.HeaderServerStatus)
	}
}

// ShowStatus gives back its own name to the header that [HideStatus] has hidden.
func ShowStatus(h nats.Header) {
	if hidden, ok := h[events.HeaderStatus]; ok {
		h[events.HeaderServerStatus] = hidden
		delete(h, events.HeaderStatus)
	}
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// headerSize returns the size of a header on the wire, in bytes.
func headerSize(h nats.Header) int {
	n := 0
	for k, values := range h {
		for _, v := range values {
			n += len(k) + len(v) + len(": \r\n")
		}
	}
	return n
}
