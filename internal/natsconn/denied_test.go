package natsconn

import (
	"context"
	"errors"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestWaiter_EndsACallAtOnceThatTheServerDenies(t *testing.T) {
	t.Parallel()
	server := testkit.PlainServer(t, &natsd.Options{JetStream: true, StoreDir: t.TempDir(), Users: []*natsd.User{{
		Username: "u", Password: "p", Permissions: &natsd.Permissions{Publish: &natsd.SubjectPermission{
			Allow: []string{">"}, Deny: []string{"$JS.API.STREAM.*.DENIED"},
		}},
	}}})
	nc := testkit.Connect(t, server.ClientURL(), nats.UserInfo("u", "p"))
	js := testkit.JetStream(t, nc)
	w := NewWaiter(nc, func(reason string) { t.Errorf("it waits: %s", reason) }, testkit.Logger(t))
	// Nothing but the denial ends a call.
	w.callTimeout = time.Hour
	calls := 0
	err := w.Await(t.Context(), "a stream", func(ctx context.Context) error {
		calls++
		_, err := js.Stream(ctx, "DENIED")
		return err
	})
	var denied *PermissionError
	if !errors.As(err, &denied) || calls != 1 {
		t.Errorf("after %d calls the error is %v, want a PermissionError after one", calls, err)
	}
}
