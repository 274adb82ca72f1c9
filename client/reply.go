package client

import (
	"net/http"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/events"
)

// ReplyError returns the failure that a reply of a NATS micro service tells of,
// as an [*Error] with its code and Retry-After, and nil when it tells of none.
func ReplyError(m *nats.Msg) error {
	code, message := m.Header.Get(micro.ErrorCodeHeader), m.Header.Get(micro.ErrorHeader)
	if code == "" && message == "" {
		return nil
	}
	return &Error{Code: code, Message: message, RetryAfter: after(headerOf(m.Header, events.HeaderRetryAfter))}
}

// ResponseError returns the failure that a response of an HTTP server tells of,
// as an [*Error] with the status as its code and Retry-After, and nil for a
// status below 400. It does not look at the body.
func ResponseError(r *http.Response) error {
	code := statusCode(r.StatusCode)
	if code == "" {
		return nil
	}
	return &Error{Code: code, Message: http.StatusText(r.StatusCode), RetryAfter: after(r.Header.Get(events.HeaderRetryAfter))}
}

// after reads a Retry-After. One that cannot be read asks for nothing, which is
// no reason to lose the failure itself.
func after(value string) time.Duration {
	now := time.Now()
	at, err := events.ParseRetryAfter(value, now)
	if err != nil || !at.After(now) {
		return 0
	}
	return at.Sub(now)
}

// headerOf returns the first value of a header, whatever its letter case.
func headerOf(h nats.Header, name string) string {
	for k, v := range h {
		if strings.EqualFold(k, name) && len(v) > 0 {
			return v[0]
		}
	}
	return ""
}
