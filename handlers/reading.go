package handlers

import (
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/streams"
)

// forReading returns JetStream on another connection like that of js. To read much,
// or to count it, takes a server up to a tenth of a second for 100,000 messages, in
// which it takes nothing else from the connection. What is redelivered meanwhile
// would seem to have a slow target. The caller closes the connection.
func forReading(js jetstream.JetStream) (jetstream.JetStream, error) {
	options := js.Conn().Opts
	if options.Name != "" {
		options.Name += ", reading"
	}
	// The other connection tells of the server's coming and going.
	options.ConnectedCB, options.ReconnectedCB, options.ClosedCB = nil, nil, nil
	options.DisconnectedErrCB, options.ReconnectErrCB = nil, nil
	options.DiscoveredServersCB, options.LameDuckModeHandler = nil, nil
	nc, err := options.Connect()
	if err != nil {
		return nil, fmt.Errorf("connecting for reading: %w", err)
	}
	reading, err := streams.Open(nc, js.Options().Domain, js.Options().APIPrefix)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("opening JetStream for reading: %w", err)
	}
	return reading, nil
}
