package client

import (
	"net/http"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
)

// ErrorFromReply returns the failure that a reply of a NATS micro service tells of,
// as an [*Error] with its code and Retry-After, and nil when it tells of none.
func ErrorFromReply(m *nats.Msg) error {
	code, message := wire.MicroError(m.Header)
	if code == "" && message == "" {
		return nil
	}
	return &Error{Code: code, Message: message, RetryAfter: after(wire.HeaderValue(m.Header, events.HeaderRetryAfter))}
}

// ErrorFromResponse returns the failure that a response of an HTTP server tells of,
// as an [*Error] with the status as its code and Retry-After, and nil for a
// status below 400. It does not look at the body.
func ErrorFromResponse(r *http.Response) error {
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
