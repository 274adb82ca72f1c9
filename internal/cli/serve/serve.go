// Package serve has the command that runs the service: [Command].
package serve

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/cli/command"
	"github.com/rebound-mq/rebound/internal/config"
	"github.com/rebound-mq/rebound/internal/natsconn"
	"github.com/rebound-mq/rebound/internal/policies"
	"github.com/rebound-mq/rebound/internal/session"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// drainTimeout is how long to wait for attempts in flight at the end.
const drainTimeout = 15 * time.Second

// Command returns the command serve.
func Command(a *command.App) *cobra.Command {
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
		Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.Configure(cmd)
			if err != nil {
				return err
			}
			if err := c.CheckServe(); err != nil {
				return command.UsageOf(err)
			}
			return run(cmd.Context(), a, c)
		},
	}
	config.AddServerFlags(cmd.Flags())
	return cmd
}

// run runs the service until ctx ends or something that it needs is gone.
func run(ctx context.Context, a *command.App, c *config.Config) error {
	i := &instance{App: a, config: c, log: a.Logger(c)}
	defer i.close()
	limitHeap(i.log)
	paceCollections()
	if err := i.open(ctx); err != nil {
		return err
	}
	err := i.start(ctx)
	if err != nil && ctx.Err() != nil {
		i.log.Info("stopped before the service had started")
		return nil
	}
	if err != nil {
		return err
	}
	i.announce()
	err = i.wait(ctx)
	i.drain()
	return err
}

// instance is the service with everything that it runs on.
type instance struct {
	*command.App
	config *config.Config
	log    *slog.Logger

	policies  *policy.Set
	shared    shared
	listener  httpListener
	front     *handlers.Front
	web       *http.Server
	webFailed <-chan error
	server    ownServer
	session   *session.Session
	service   *handlers.Service

	// cleanups undo what was opened, last in first out.
	cleanups []func()
}

func (i *instance) close() {
	for _, clean := range slices.Backward(i.cleanups) {
		clean()
	}
}

func (i *instance) onClose(clean func()) { i.cleanups = append(i.cleanups, clean) }

// open opens Redis, HTTP, the NATS server and the connection to it.
func (i *instance) open(ctx context.Context) (err error) {
	if i.policies, err = policies.OfFile(i.config.Policies); err != nil {
		return err
	}
	if i.shared, err = openShared(i.config, i.log); err != nil {
		return err
	}
	i.onClose(func() { i.shared.close(i.log) })
	if i.listener, err = listenHTTP(ctx, i.config.HTTP); err != nil {
		return err
	}
	i.onClose(func() { _ = i.listener.Close() })
	i.front = handlers.NewFront(i.SemanticVersion())
	i.web, i.webFailed = serveHTTP(i.listener, i.front)
	i.onClose(func() { _ = i.web.Close() })
	if i.server, err = startEmbedded(ctx, i.config, i.log); err != nil {
		return err
	}
	i.onClose(i.server.Shutdown)
	if i.session, err = session.Connect(ctx, i.config, "rebound", i.log, i.server.options()...); err != nil {
		return err
	}
	i.onClose(i.session.Close)
	return nil
}

// start starts the service once the server can serve it.
func (i *instance) start(ctx context.Context) error {
	waiter := natsconn.NewWaiter(i.session.NC.Conn, i.front.Waiting, i.log)
	err := waiter.Await(ctx, "JetStream", func(ctx context.Context) error { return natsconn.CheckServer(ctx, i.session.JS) })
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	c := i.config
	i.service, err = handlers.Start(ctx, i.session.NC.Conn, handlers.Config{
		Prefix: c.Prefix, Policies: i.policies, Limits: i.session.Limits(), Version: i.SemanticVersion(), Lease: c.Lease,
		MaxInFlight: c.MaxInFlight, MaxInFlightBytes: c.MaxInFlightBytes, ForgetIdleAfter: c.ForgetIdleAfter,
		Backpressure: c.Backpressure,
		Breakers:     i.shared.breakers, Ledgers: i.shared.ledgers, Logger: i.log, Waiting: i.front.Waiting, Trouble: i.server.trouble,
	})
	if err != nil {
		return err
	}
	i.front.Open(i.service)
	return nil
}

// wait waits until ctx ends or something that the service needs is gone.
func (i *instance) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		i.log.Info("stopping", "drain", drainTimeout)
		return nil
	case err := <-i.webFailed:
		return err
	case <-i.server.done():
		return errors.New("the embedded NATS server has stopped")
	}
}

// drain waits for the attempts in flight and ends the HTTP server.
func (i *instance) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	if err := i.service.Stop(ctx); err != nil {
		i.log.Warn("draining was cut off; what was in hand is redelivered at the next start", "error", err)
	}
	if err := i.web.Close(); err != nil {
		i.log.Debug("closing the HTTP server", "error", err)
	}
}
