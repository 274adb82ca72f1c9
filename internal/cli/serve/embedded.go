package serve

import (
	"context"
	"log/slog"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/internal/config"
	"github.com/rebound-mq/rebound/internal/embedded"
)

// ownServer is the embedded server, nil if the service uses another.
type ownServer struct{ *embedded.Server }

func startEmbedded(ctx context.Context, c *config.Config, log *slog.Logger) (ownServer, error) {
	if !c.Embedded() {
		return ownServer{}, nil
	}
	host, port := c.ListenHostPort()
	server, err := embedded.Start(ctx, embedded.Options{
		StoreDir: c.StoreDir, Host: host, Port: port, SyncInterval: c.SyncInterval, SyncAlways: c.SyncAlways,
		MaxStore: c.MaxStore, User: c.User, Password: c.Password.Reveal(), Token: c.Token.Reveal(), Logger: log,
	})
	return ownServer{server}, err
}

// options returns the options to connect to the server.
func (o ownServer) options() []nats.Option {
	if o.Server == nil {
		return nil
	}
	return []nats.Option{o.InProcess()}
}

// trouble says why the server stores nothing, empty if it does.
func (o ownServer) trouble() string {
	if o.Server == nil {
		return ""
	}
	return o.Trouble()
}

// done returns a channel that is closed when the server is down.
func (o ownServer) done() <-chan struct{} {
	if o.Server == nil {
		return nil
	}
	return o.Done()
}

// Shutdown stops the server.
func (o ownServer) Shutdown() {
	if o.Server != nil {
		o.Server.Shutdown()
	}
}
