package natsconn_test

import (
	"context"
	"errors"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/internal/natsconn"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestDenials_EndThePublishesToTheDeniedSubjectOnly(t *testing.T) {
	t.Parallel()
	server := testkit.PlainServer(t, &natsd.Options{Users: []*natsd.User{{
		Username: "u", Password: "p", Permissions: &natsd.Permissions{Publish: &natsd.SubjectPermission{Allow: []string{">"}, Deny: []string{"no.>"}}},
	}}})
	passedOn := make(chan error, 1)
	nc := testkit.Connect(t, server.ClientURL(), nats.UserInfo("u", "p"), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { passedOn <- err }))
	denials, stop := natsconn.WatchDenials(nc, testkit.Logger(t))

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	otherCtx, cancelOther := context.WithCancel(t.Context())
	defer cancelOther()
	publish, other := denials.Begin("no.café", cancel), denials.Begin("no.other", cancelOther)
	if err := nc.Publish("no.café", nil); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	if err := denials.End(publish); !errors.Is(ctx.Err(), context.Canceled) || !errors.Is(err, nats.ErrPermissionViolation) {
		t.Errorf("the publish ends with %v and %v, want it cancelled by a violation", ctx.Err(), err)
	}
	if err := denials.End(other); err != nil || otherCtx.Err() != nil {
		t.Errorf("a publish to another subject ends with %v and %v, want none", otherCtx.Err(), err)
	}
	// What no publish waits for goes to the handler of the connection, and so does everything
	// once the watch is over.
	for range 2 {
		if err := nc.Publish("no.third", nil); err != nil {
			t.Fatal(err)
		}
		if err := <-passedOn; !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("passed on %v, want the violation", err)
		}
		stop()
	}
	var none *natsconn.Denials
	if err := none.End(none.Begin("x", cancel)); err != nil {
		t.Errorf("no watch ends a publish with %v", err)
	}
}
