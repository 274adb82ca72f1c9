package streams

import (
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Open returns JetStream on a connection: with an API prefix or in a domain when
// one of them is not empty. The prefix weighs more.
func Open(nc *nats.Conn, domain, apiPrefix string, options ...jetstream.JetStreamOpt) (jetstream.JetStream, error) {
	switch {
	case apiPrefix != "":
		return jetstream.NewWithAPIPrefix(nc, apiPrefix, options...)
	case domain != "":
		return jetstream.NewWithDomain(nc, domain, options...)
	}
	return jetstream.New(nc, options...)
}
