package natsconn

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The first version of nats-server that schedules messages.
const minMajor, minMinor = 2, 12

// checkTimeout bounds each request to the server.
const checkTimeout = 5 * time.Second

// CheckServer returns why the server that js is connected to cannot carry the service: a
// [*VersionError] if it is too old, a [*JetStreamError] if JetStream is not enabled there or
// for the account, or does not answer.
func CheckServer(ctx context.Context, js jetstream.JetStream) error {
	nc := js.Conn()
	at, version := shownURL(nc.ConnectedUrl()), nc.ConnectedServerVersion()
	if version == "" {
		return &JetStreamError{URL: at, Err: nats.ErrDisconnected, Problem: "the connection is lost"}
	}
	if !atLeast(version, minMajor, minMinor) {
		return &VersionError{URL: at, Version: version}
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	_, err := js.AccountInfo(ctx)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return &JetStreamError{URL: at, Err: err, Problem: "JetStream is not enabled for this account"}
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled):
		return &JetStreamError{URL: at, Err: err, Problem: "JetStream is not enabled; start it with `nats-server --jetstream`"}
	case errors.Is(err, context.DeadlineExceeded):
		return &JetStreamError{URL: at, Err: err, Problem: "JetStream does not answer: it has no leader, or is off, as on a full disk; or may this user not publish to $JS.API.> and subscribe to its inbox?"}
	}
	return &JetStreamError{URL: at, Err: err, Problem: fmt.Sprintf("JetStream refuses to answer: %v", err)}
}

// atLeast compares the first two numbers of a version. A version without numbers belongs
// to a development build and counts as new.
func atLeast(version string, major, minor int) bool {
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	if len(parts) < 2 {
		return true
	}
	a, errA := strconv.Atoi(parts[0])
	b, errB := strconv.Atoi(parts[1])
	if errA != nil || errB != nil {
		return true
	}
	return a > major || a == major && b >= minor
}
