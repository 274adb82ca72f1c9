package client_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/client"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/embedded"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// must returns v of a call that cannot fail in an example.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// startRebound runs the service on its own NATS server and returns a connection to it.
func startRebound(ctx context.Context) (nc *nats.Conn, stop func()) {
	dir := must(os.MkdirTemp("", "rebound-example"))
	server := must(embedded.Start(ctx, embedded.Options{StoreDir: dir, Port: embedded.RandomPort}))
	own := must(nats.Connect(server.ClientURL(), nats.Timeout(10*time.Second)))
	service := must(handlers.Start(ctx, own, handlers.Config{Policies: quickPolicies(), Logger: silent, Backpressure: unhindered}))
	nc = must(nats.Connect(server.ClientURL(), nats.Timeout(10*time.Second)))
	return nc, func() {
		nc.Close()
		must(0, service.Stop(ctx))
		own.Close()
		server.Shutdown()
		must(0, os.RemoveAll(dir))
	}
}

// quickPolicies have short delays.
func quickPolicies() *policy.Set {
	return must(policy.Parse("example.yaml", []byte("default: {maxAttempts: 4, baseDelay: 1ms, jitterType: none}")))
}

// startClient starts Rebound and returns a client connected to it.
func startClient() (ctx context.Context, c *client.Client, stop func()) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	nc, stopRebound := startRebound(ctx)
	c = must(client.New(ctx, client.Config{Conn: nc, Policies: quickPolicies(), Logger: silent}))
	return ctx, c, func() {
		if err := c.Close(ctx); err != nil {
			fmt.Println(err)
		}
		stopRebound()
		cancel()
	}
}
