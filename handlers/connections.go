package handlers

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/natsconn"
	"github.com/rebound-mq/rebound/internal/streams"
)

// readQueue is how many messages of an answer may wait to be read. It is more than any
// answer has; the client's own size takes half a MiB for every question.
const readQueue = 4096

// apart returns JetStream on another connection like that of js, which is for one
// purpose. A server takes what comes by one connection in turn: what is small and
// waited for must not stand behind what is much. The caller closes the connection.
func apart(js jetstream.JetStream, purpose string) (jetstream.JetStream, error) {
	options := js.Conn().Opts
	if options.Name != "" {
		options.Name += ", " + purpose
	}
	// The other connection tells of the server's coming and going.
	options.ConnectedCB, options.ReconnectedCB, options.ClosedCB = nil, nil, nil
	options.DisconnectedErrCB, options.ReconnectErrCB = nil, nil
	options.DiscoveredServersCB, options.LameDuckModeHandler = nil, nil
	options.SubChanLen = readQueue
	nc, err := options.Connect()
	if err != nil {
		return nil, fmt.Errorf("connecting for %s: %w", purpose, err)
	}
	other, err := streams.Open(nc, js.Options().Domain, js.Options().APIPrefix)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("opening JetStream for %s: %w", purpose, err)
	}
	return other, nil
}

// apartSoon is [apart] once a server is there.
func apartSoon(ctx context.Context, waiter *natsconn.Waiter, js jetstream.JetStream, purpose string) (other jetstream.JetStream, err error) {
	err = waiter.Await(ctx, "a connection for "+purpose, func(context.Context) (err error) {
		other, err = apart(js, purpose)
		return err
	})
	if err == nil {
		waiter.Conns = append(waiter.Conns, other.Conn())
	}
	return other, err
}
