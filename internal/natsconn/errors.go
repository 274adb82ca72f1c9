package natsconn

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
)

// ConnectError says why no connection was made. It holds no credentials.
type ConnectError struct {
	// Servers are the addresses that were tried.
	Servers string
	// Context is the nats context that named them, or empty.
	Context string
	Err     error
}

// Error implements error.
func (e *ConnectError) Error() string {
	where := e.Servers
	if e.Context != "" {
		where += " (nats context " + e.Context + ")"
	}
	return fmt.Sprintf("connecting to NATS at %s: %s", where, e.reason())
}

func (e *ConnectError) reason() string {
	switch {
	case errors.Is(e.Err, nats.ErrNoServers):
		return "no server answers there; start one, for example with `rebound serve`, or name another with --nats"
	case errors.Is(e.Err, nats.ErrAuthorization):
		return "the server refuses the credentials, or asks for some and none are given"
	case errors.Is(e.Err, nats.ErrAuthExpired):
		return "the credentials have expired"
	case errors.Is(e.Err, nats.ErrTimeout), errors.Is(e.Err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.Is(e.Err, nats.ErrSecureConnRequired):
		return "the server asks for TLS; set --tls-ca, or use a tls:// URL"
	case errors.Is(e.Err, nats.ErrSecureConnWanted):
		return "the server does not speak TLS, which is asked for"
	}
	text := strings.TrimPrefix(e.Err.Error(), "nats: ")
	if strings.Contains(text, "certificate required") || strings.Contains(text, "closed by remote after TLS handshake") {
		// The client may notice the refusal in either way.
		return "the server closes the connection after the TLS handshake, as one does that asks for a client certificate; set --tls-cert and --tls-key"
	}
	return text
}

// Unwrap returns the error of the NATS client.
func (e *ConnectError) Unwrap() error { return e.Err }

// ContextError says why a context of the nats command line cannot be used.
type ContextError struct {
	Name    string
	Problem string
}

// Error implements error.
func (e *ContextError) Error() string { return fmt.Sprintf("nats context %q: %s", e.Name, e.Problem) }

// VersionError says that the server is too old.
type VersionError struct {
	URL     string
	Version string
}

// Error implements error.
func (e *VersionError) Error() string {
	return fmt.Sprintf("the NATS server at %s is version %s; Rebound needs %d.%d or newer, which has scheduled messages",
		e.URL, e.Version, minMajor, minMinor)
}

// PayloadError says that the largest message of the server is too small.
type PayloadError struct {
	URL string
	// Max is the server's max_payload, in bytes.
	Max int64
}

// Error implements error.
func (e *PayloadError) Error() string {
	return fmt.Sprintf("the NATS server at %s has a max_payload of %d bytes; Rebound needs at least %d, for an operation with its state and for its own answers",
		e.URL, e.Max, MinPayload)
}

// JetStreamError says that JetStream cannot be used.
type JetStreamError struct {
	URL     string
	Problem string
	Err     error
}

// Error implements error.
func (e *JetStreamError) Error() string {
	return fmt.Sprintf("the NATS server at %s: %s", e.URL, e.Problem)
}

// Unwrap returns the error of the NATS client.
func (e *JetStreamError) Unwrap() error { return e.Err }
