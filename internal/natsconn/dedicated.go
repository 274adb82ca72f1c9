package natsconn

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/streams"
)

// readQueue is how many messages of an answer may wait to be read. No answer has more; the
// client's default takes half a MiB for every request.
const readQueue = 4096

// Dedicated returns JetStream on a connection of its own, like that of js, for one purpose.
// A server handles the requests of a connection in turn, so urgent small requests must not
// queue behind bulk ones. The caller closes the connection.
func Dedicated(js jetstream.JetStream, purpose string) (jetstream.JetStream, error) {
	options := js.Conn().Opts
	if options.Name != "" {
		options.Name += ", " + purpose
	}
	// The connection of js already logs connects and disconnects.
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
// violations of permissions.
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

// watch watches a connection for violations of permissions.
func (w *Waiter) watch(nc *nats.Conn) { w.conns = append(w.conns, nc) }
