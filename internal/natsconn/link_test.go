package natsconn_test

import (
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/internal/natsconn"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestLink_ConnectionThatWasLostIsNotUpSinceAMarkBefore(t *testing.T) {
	t.Parallel()
	server := testkit.PlainServer(t, &natsd.Options{})
	nc := testkit.Connect(t, server.ClientURL(), nats.MaxReconnects(-1), nats.ReconnectWait(time.Millisecond))
	l := natsconn.NewLink(nc)
	mark, up := l.Look()
	if !up || !l.UpSince(mark) {
		t.Fatalf("a connection that was not lost is up: %v, since the mark: %v; want both", up, l.UpSince(mark))
	}
	id, err := nc.GetClientID()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.DisconnectClientByID(id); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 10*time.Second, "the loss to show", func() bool { return !l.UpSince(mark) })
	testkit.Eventually(t, 20*time.Second, "the connection to be up again", func() bool { _, up := l.Up(); return up })
	if l.UpSince(mark) {
		t.Error("a connection that came back counts as up since before")
	}
	if mark, _ := l.Look(); !l.UpSince(mark) {
		t.Error("a connection that came back is not up since then")
	}
}
