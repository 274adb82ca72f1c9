package natsconn

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/natscontext"

	"github.com/rebound-mq/rebound/internal/config"
	"github.com/rebound-mq/rebound/internal/streams"
)

// Conn is a connection together with the JetStream domain or API prefix of its context.
// It is safe for concurrent use.
type Conn struct {
	*nats.Conn
	domain, apiPrefix string
}

// JetStream returns the JetStream interface, in the domain or with the API
// prefix of the context.
func (c *Conn) JetStream(options ...jetstream.JetStreamOpt) (jetstream.JetStream, error) {
	return streams.Open(c.Conn, c.domain, c.apiPrefix, options...)
}

// Connect connects once, to the servers or with the nats context that cfg names, and
// returns one clear error if that fails or ctx ends. Once made, a connection reconnects
// for ever, even if its credentials are refused for a while. Name is the client's name at
// the server. Each disconnect, reconnect and asynchronous error is logged. Options are
// applied last.
//
// The error is a [*ConnectError] or a [*ContextError]; neither holds
// credentials.
func Connect(ctx context.Context, cfg *config.Config, name string, logger *slog.Logger, options ...nats.Option) (*Conn, error) {
	var nctx natsContext
	if cfg.Context != "" {
		var err error
		if nctx, err = readContext(cfg.Context); err != nil {
			return nil, err
		}
	}
	secrets := newRedactor(cfg, nctx)
	all := append(standardOptions(name, logger, secrets), configOptions(cfg)...)
	all = append(all, options...)

	nc, err := await(ctx, func() (*nats.Conn, error) {
		if cfg.Context != "" {
			nc, _, err := natscontext.Connect(nctx.path, append(nctx.options(), all...)...)
			return nc, err
		}
		return nats.Connect(serverList(cfg, options), all...)
	})
	if err != nil {
		return nil, &ConnectError{Servers: shownServers(cfg, nctx), Context: cfg.Context, Err: secrets.error(err)}
	}
	logger.Debug("connected to NATS", "url", shownURL(nc.ConnectedUrl()), "server", nc.ConnectedServerName(),
		"version", nc.ConnectedServerVersion())
	return &Conn{Conn: nc, domain: nctx.Domain, apiPrefix: nctx.APIPrefix}, nil
}

// standardOptions returns the options of every connection.
func standardOptions(name string, logger *slog.Logger, secrets redactor) []nats.Option {
	options := logOptions(logger, secrets)
	return append(options,
		nats.Name(name),
		nats.Timeout(10*time.Second),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250*time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, time.Second),
		nats.IgnoreAuthErrorAbort(),
		// A silently broken connection is noticed within a minute.
		nats.PingInterval(20*time.Second),
		nats.MaxPingsOutstanding(2),
	)
}

// configOptions returns the credentials of the configuration, none with a context.
func configOptions(cfg *config.Config) []nats.Option {
	var options []nats.Option
	switch {
	case cfg.Creds != "":
		options = append(options, nats.UserCredentials(cfg.Creds))
	case cfg.NKey != "":
		options = append(options, nkeyOption(cfg.NKey))
	case cfg.User != "":
		options = append(options, nats.UserInfo(cfg.User, cfg.Password.Reveal()))
	case cfg.Token != "":
		options = append(options, nats.Token(cfg.Token.Reveal()))
	}
	if cfg.TLSCA != "" {
		options = append(options, nats.RootCAs(cfg.TLSCA))
	}
	if cfg.TLSCert != "" {
		options = append(options, nats.ClientCert(cfg.TLSCert, cfg.TLSKey))
	}
	return options
}

// nkeyOption reads the seed when the connection is made, so that a bad file is a
// connection error.
func nkeyOption(file string) nats.Option {
	return func(o *nats.Options) error {
		option, err := nats.NkeyOptionFromSeed(file)
		if err != nil {
			return err
		}
		return option(o)
	}
}

// serverList returns the servers in the form of [nats.Connect]. A connection inside the
// process needs none, and a URL would impose its scheme.
func serverList(cfg *config.Config, options []nats.Option) string {
	var o nats.Options
	for _, option := range options {
		if option(&o) == nil && o.InProcessServer != nil {
			return ""
		}
	}
	urls := make([]string, 0, len(cfg.Servers()))
	for _, u := range cfg.Servers() {
		urls = append(urls, u.Reveal())
	}
	return strings.Join(urls, ",")
}

func shownServers(cfg *config.Config, nctx natsContext) string {
	if cfg.Context != "" {
		return shownURL(nctx.URL)
	}
	urls := make([]string, 0, len(cfg.Servers()))
	for _, u := range cfg.Servers() {
		urls = append(urls, u.String())
	}
	return strings.Join(urls, ", ")
}

// shownURL returns a list of URLs without their credentials.
func shownURL(list string) string {
	if list == "" {
		return nats.DefaultURL
	}
	var shown []string
	for part := range strings.SplitSeq(list, ",") {
		u, err := config.ParseURL(part)
		if err != nil {
			return "the configured servers"
		}
		shown = append(shown, u.String())
	}
	return strings.Join(shown, ", ")
}

// await runs connect and returns when it is done or ctx ends. A connection that is made
// too late is closed.
func await(ctx context.Context, connect func() (*nats.Conn, error)) (*nats.Conn, error) {
	type result struct {
		nc  *nats.Conn
		err error
	}
	done := make(chan result, 1)
	go func() {
		nc, err := connect()
		done <- result{nc, err}
	}()
	select {
	case r := <-done:
		return r.nc, r.err
	case <-ctx.Done():
		go func() {
			if r := <-done; r.nc != nil {
				r.nc.Close()
			}
		}()
		return nil, context.Cause(ctx)
	}
}
