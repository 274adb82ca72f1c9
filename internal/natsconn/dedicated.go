package natsconn

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/streams"
)

// readQueue is how many messages of an answer may wait to be read. It is more than any
// answer has; the client's own size takes half a MiB for every question.
const readQueue = 4096

// Dedicated returns JetStream on a connection of its own like that of js, which serves
// one purpose. A server handles what comes by one connection in turn, so what is small
// and waited for must not stand behind what is much. The caller closes the connection.
func Dedicated(js jetstream.JetStream, purpose string) (jetstream.JetStream, error) {
	options := js.Conn().Opts
	if options.Name != "" {
		options.Name += ", " + purpose
	}
	// The connection of js reports the server's coming and going.
	options.ConnectedCB, options.ReconnectedCB, options.ClosedCB = nil, nil, nil
	options.DisconnectedErrCB, options.ReconnectErrCB = nil, nil
	options.DiscoveredServersCB, options.LameDuckModeHandler = nil, nil
	options.SubChanLen = readQueue
	nc, err := options.Connect()
	if err != nil {
		return nil, fmt.Errorf("connecting for %s: %w", purpose, err)
	}
	dedicated, err := streams.Open(nc, js.Options().Domain, js.Options().APIPrefix)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("opening JetStream for %s: %w", purpose, err)
	}
	return dedicated, nil
}

// Dedicated makes a [Dedicated] connection once a server is there, and watches it for
// permissions that the server denies.
func (w *Waiter) Dedicated(ctx context.Context, js jetstream.JetStream, purpose string) (jetstream.JetStream, error) {
	var dedicated jetstream.JetStream
	err := w.Await(ctx, "a connection for "+purpose, func(context.Context) (err error) {
		dedicated, err = Dedicated(js, purpose)
		return err
	})
	if err != nil {
		return nil, err
	}
	w.watch(dedicated.Conn())
	return dedicated, nil
}

// watch has a connection watched for permissions that the server denies.
func (w *Waiter) watch(nc *nats.Conn) { w.conns = append(w.conns, nc) }
