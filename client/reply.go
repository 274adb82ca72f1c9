package client

import (
	"net/http"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
)

// ErrorFromReply returns the failure reported by the reply of a NATS micro service, as an
// [*Error] with its code and Retry-After, or nil if the reply is a success.
func ErrorFromReply(m *nats.Msg) error {
	code, message := wire.MicroError(m.Header)
	if code == "" && message == "" {
		return nil
	}
	return &Error{Code: code, Message: message, RetryAfter: after(wire.HeaderValue(m.Header, events.HeaderRetryAfter))}
}

// ErrorFromResponse returns the failure reported by the response of an HTTP server, as an
// [*Error] with the status as its code and Retry-After, or nil for a status outside 400 to 599.
// It does not read the body.
func ErrorFromResponse(r *http.Response) error {
	code := statusCode(r.StatusCode)
	if code == "" {
		return nil
	}
	return &Error{Code: code, Message: http.StatusText(r.StatusCode), RetryAfter: after(r.Header.Get(events.HeaderRetryAfter))}
}

// after reads a Retry-After. It returns 0 for one that cannot be read, so that the failure itself
// is not lost.
func after(value string) time.Duration {
	now := time.Now()
	at, err := events.ParseRetryAfter(value, now)
	if err != nil || !at.After(now) {
		return 0
	}
	return at.Sub(now)
}
