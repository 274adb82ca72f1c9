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

// MinPayload is the smallest max_payload of a server that can serve, in bytes. An operation's
// state and the headers of its submission take up to 64 KiB beside the payload, and a
// description of the service for `nats micro info` twice as much.
const MinPayload = 256 << 10

// checkTimeout bounds each request to the server.
const checkTimeout = 5 * time.Second

// CheckServer returns why the server that js is connected to cannot carry the service: a
// [*VersionError] if it is too old, a [*PayloadError] if its messages are too small, a
// [*JetStreamError] if JetStream is not enabled there or for the account, does not answer, or
// may store nothing on disk.
func CheckServer(ctx context.Context, js jetstream.JetStream) error {
	nc := js.Conn()
	at, version := shownURL(nc.ConnectedUrl()), nc.ConnectedServerVersion()
	if version == "" {
		return &JetStreamError{URL: at, Err: nats.ErrDisconnected, Problem: "the connection is lost"}
	}
	if !atLeast(version, minMajor, minMinor) {
		return &VersionError{URL: at, Version: version}
	}
	if most := nc.MaxPayload(); most < MinPayload {
		return &PayloadError{URL: at, Max: most}
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	info, err := js.AccountInfo(ctx)
	switch {
	case err == nil && !storesFiles(info):
		return &JetStreamError{URL: at, Err: errNoStorage, Problem: "JetStream gives this account no storage on disk, where Rebound keeps operations; raise the account's limit (`max_file`, or `--js-disk-storage` of nsc)"}
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

// errNoStorage is the cause of a [JetStreamError] for an account that may store nothing.
var errNoStorage = errors.New("the account has no file storage")

// storesFiles reports whether an account may store anything on disk. An account has one limit,
// or one for each number of replicas; a negative one is unlimited.
func storesFiles(info *jetstream.AccountInfo) bool {
	if len(info.Tiers) == 0 {
		return info.Limits.MaxStore != 0
	}
	for _, tier := range info.Tiers {
		if tier.Limits.MaxStore != 0 {
			return true
		}
	}
	return false
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
