package natsconn_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/natsconn"
)

func TestPasses_TellsWhatIsAwayFromWhatIsWrong(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want bool
	}{
		{context.DeadlineExceeded, true},
		{nats.ErrNoServers, true},
		{nats.ErrDisconnected, true},
		{jetstream.ErrNoStreamResponse, true},
		{&jetstream.APIError{Code: 503, ErrorCode: 10008}, true},
		{&nats.APIError{Code: 503, ErrorCode: 10008}, true},
		{&jetstream.APIError{Code: 400, ErrorCode: 10005}, true},
		{&jetstream.APIError{Code: 404, ErrorCode: 10059}, true},
		{&nats.APIError{Code: 404, ErrorCode: 10014}, true},
		{&jetstream.APIError{Code: 500, ErrorCode: 10047}, true},
		{&natsconn.JetStreamError{Err: context.DeadlineExceeded}, true},
		{&natsconn.PermissionError{Err: nats.ErrPermissionViolation}, false},
		{jetstream.ErrJetStreamNotEnabledForAccount, false},
		{jetstream.ErrJetStreamNotEnabled, false},
		{&jetstream.APIError{Code: 500, ErrorCode: 10074}, false},
		{&jetstream.APIError{Code: 400, ErrorCode: 10058}, false},
		{&natsconn.VersionError{Version: "2.11.0"}, false},
		{&natsconn.PayloadError{Max: 1 << 16}, false},
		{nats.ErrConnectionClosed, false},
		{errors.New("something else"), false},
	} {
		if got := natsconn.Passes(fmt.Errorf("reading: %w", tc.err)); got != tc.want {
			t.Errorf("%v: %t, want %t", tc.err, got, tc.want)
		}
	}
}
