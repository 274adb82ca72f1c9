package streams

import (
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Open returns JetStream on a connection, with an API prefix or in a domain if one of them is not
// empty. The prefix takes precedence.
func Open(nc *nats.Conn, domain, apiPrefix string, options ...jetstream.JetStreamOpt) (jetstream.JetStream, error) {
	switch {
	case apiPrefix != "":
		return jetstream.NewWithAPIPrefix(nc, apiPrefix, options...)
	case domain != "":
		return jetstream.NewWithDomain(nc, domain, options...)
	}
	return jetstream.New(nc, options...)
}

// withAPIPrefix replaces the domain of a JetStream by its API prefix, because package jetstreamext
// sends batch requests for a domain to a subject on which nobody answers.
func withAPIPrefix(js jetstream.JetStream) (jetstream.JetStream, error) {
	if js.Options().Domain == "" {
		return js, nil
	}
	return jetstream.NewWithAPIPrefix(js.Conn(), APIPrefix(js))
}

// APIPrefix returns the prefix of the subjects of JetStream's API, including the final dot.
func APIPrefix(js jetstream.JetStream) string {
	switch o := js.Options(); {
	case o.APIPrefix != "":
		return strings.TrimSuffix(o.APIPrefix, ".") + "."
	case o.Domain != "":
		return "$JS." + o.Domain + ".API."
	}
	return jetstream.DefaultAPIPrefix
}
