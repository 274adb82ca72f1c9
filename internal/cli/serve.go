package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/config"
	"github.com/rebound-mq/rebound/internal/embedded"
	"github.com/rebound-mq/rebound/internal/natsconn"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

const (
	// drainTimeout is how long attempts in flight are waited for at the end.
	drainTimeout = 15 * time.Second
	httpTimeout  = 5 * time.Second
	// clusterReplicas is how many servers of a cluster store each stream when
	// nothing else is said.
	clusterReplicas = 3
)

func (a *app) serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the service",
		Long: `Runs the service until it is told to stop by SIGINT or SIGTERM; a second signal ends
it at once, which loses nothing.

Without --nats or --context it runs its own NATS server with JetStream on disk.
Settings come, by rising weight, from the configuration file, the environment
and the flags; "rebound doctor" shows them.`,
		Example: `  rebound serve
  rebound serve --nats nats://n1:4222,nats://n2:4222 --creds rebound.creds --replicas 3
  rebound serve --context production --policies policies.yaml --redis redis://r1:6379`,
		Args: noArgs,
	}
	config.AddServerFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := a.configure(cmd)
		if err != nil {
			return err
		}
		if err := c.CheckServe(); err != nil {
			return usageOf(err)
		}
		return a.serve(cmd.Context(), c)
	}
	return cmd
}

// serve runs the service until ctx ends or something that it needs is gone.
func (a *app) serve(ctx context.Context, c *config.Config) error {
	log := a.logger(c)
	policies, err := loadPolicies(c)
	if err != nil {
		return err
	}
	shared, err := openShared(c, log)
	if err != nil {
		return err
	}
	defer shared.close(log)
	listener, err := listenHTTP(ctx, c.HTTP)
	if err != nil {
		return err
	}
	defer listener.Close()
	front := handlers.NewFront(semantic(a.version))
	web, webFailed := serveHTTP(listener, front)
	defer web.Close()
	server, err := startEmbedded(ctx, c, log)
	if err != nil {
		return err
	}
	defer server.Shutdown()

	s, err := connect(ctx, c, "rebound", log, server.options()...)
	if err != nil {
		return err
	}
	defer s.nc.Close()
	waiter := natsconn.NewWaiter(s.nc.Conn, front.Waiting, log)
	err = waiter.Await(ctx, "JetStream", func(ctx context.Context) error { return natsconn.CheckServer(ctx, s.js) })
	if ctx.Err() != nil {
		log.Info("stopped before the service had started")
		return nil
	}
	if err != nil {
		return err
	}
	service, err := handlers.Start(ctx, s.nc.Conn, handlers.Config{
		Prefix: c.Prefix, Policies: policies, Limits: limits(s), Version: semantic(a.version), Lease: c.Lease,
		MaxInFlight: c.MaxInFlight, MaxInFlightBytes: c.MaxInFlightBytes, ForgetIdleAfter: c.ForgetIdleAfter,
		Breakers: shared.breakers, Ledgers: shared.ledgers, Logger: log, Waiting: front.Waiting, Trouble: server.trouble,
	})
	if err != nil && ctx.Err() != nil {
		log.Info("stopped before the service had started")
		return nil
	}
	if err != nil {
		return err
	}
	front.Open(service)
	a.announce(s, server, listener.address(), log)

	var failed error
	select {
	case <-ctx.Done():
		log.Info("stopping", "drain", drainTimeout)
	case failed = <-webFailed:
	case <-server.done():
		failed = errors.New("the embedded NATS server has stopped")
	}
	stop(service, web, log)
	return failed
}

// stop drains the service and ends the HTTP server.
func stop(service *handlers.Service, web *http.Server, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	if err := service.Stop(ctx); err != nil {
		log.Warn("not everything could be drained; what was in hand comes again at the next start", "error", err)
	}
	if err := web.Close(); err != nil {
		log.Debug("closing the HTTP server", "error", err)
	}
}

func loadPolicies(c *config.Config) (*policy.Set, error) {
	if c.Policies == "" {
		return policy.Builtin(), nil
	}
	return policy.LoadFile(c.Policies)
}

// limits returns the limits of the streams on the server of s.
func limits(s *session) streams.Limits {
	c := s.config
	replicas := c.Replicas
	if replicas == 0 {
		replicas = 1
		if s.nc.ConnectedClusterName() != "" {
			replicas = clusterReplicas
		}
	}
	return streams.Limits{
		Replicas: replicas, OutcomesMaxAge: c.OutcomesMaxAge, OutcomesMaxBytes: c.OutcomesMaxBytes, DeadMaxAge: c.DeadMaxAge, MaxSubmitted: int64(c.MaxSubmitted),
	}
}

// ownServer is the embedded server, or none when the service uses another.
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

// options are how to connect to the server.
func (o ownServer) options() []nats.Option {
	if o.Server == nil {
		return nil
	}
	return []nats.Option{o.InProcess()}
}

// trouble says why the server stores nothing, empty when it does.
func (o ownServer) trouble() string {
	if o.Server == nil {
		return ""
	}
	return o.Trouble()
}

// done is closed when the server is down.
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

// listenHTTP listens on addr, or nowhere when it is empty.
func listenHTTP(ctx context.Context, addr string) (httpListener, error) {
	if addr == "" {
		return httpListener{}, nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return httpListener{}, fmt.Errorf("listening on %s for HTTP: the port is already in use; choose another with --http, or none with --http off", addr)
	}
	if err != nil {
		return httpListener{}, fmt.Errorf("listening for HTTP: %w; choose another address with --http", err)
	}
	return httpListener{l}, nil
}

// httpListener is where HTTP is served, or nowhere.
type httpListener struct{ net.Listener }

// Close implements [net.Listener].
func (l httpListener) Close() error {
	if l.Listener == nil {
		return nil
	}
	return l.Listener.Close()
}

// address returns the address as text, empty for none.
func (l httpListener) address() string {
	if l.Listener == nil {
		return ""
	}
	return l.Listener.Addr().String()
}

// serveHTTP serves HTTP until the server is closed. The channel tells of a
// failure.
func serveHTTP(l httpListener, handler http.Handler) (*http.Server, <-chan error) {
	web := &http.Server{Handler: handler, ReadHeaderTimeout: httpTimeout, ReadTimeout: httpTimeout, IdleTimeout: time.Minute}
	failed := make(chan error, 1)
	if l.Listener != nil {
		go func() {
			if err := web.Serve(l.Listener); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serving HTTP: %w", err)
			}
		}()
	}
	return web, failed
}
