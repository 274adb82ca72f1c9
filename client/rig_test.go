package client_test

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/client"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

// patience bounds what takes milliseconds on an idle machine.
const patience = 30 * time.Second

// unhindered are backpressure limits that a busy machine does not reach.
var unhindered = gate.Limits{StoreDelay: time.Hour}

var silent = slog.New(slog.NewTextHandler(io.Discard, nil))

// rig is a NATS server with one instance of the service, and a client.
type rig struct {
	*client.Client
	t   *testing.T
	nc  *nats.Conn
	url string
}

func newRig(t *testing.T, policies string) *rig {
	t.Helper()
	server := testkit.Server(t)
	r := &rig{t: t, url: server.ClientURL()}
	set := policySet(t, policies)
	service, err := handlers.Start(ctx(t), testkit.Connect(t, r.url), handlers.Config{Policies: set, Logger: silent, Backpressure: unhindered})
	if err != nil {
		t.Fatalf("starting the service: %v", err)
	}
	t.Cleanup(func() {
		if err := service.Stop(ctx(t)); err != nil {
			t.Errorf("stopping the service: %v", err)
		}
	})
	r.nc = testkit.Connect(t, r.url)
	r.Client = connected(t, client.Config{Conn: r.nc, Policies: set})
	return r
}

// connected returns a client that is closed when the test ends.
func connected(t *testing.T, config client.Config) *client.Client {
	t.Helper()
	if config.Logger == nil {
		config.Logger = silent
	}
	c, err := client.New(ctx(t), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeClient(t, c) })
	return c
}

func closeClient(t *testing.T, c *client.Client) {
	t.Helper()
	if err := c.Close(ctx(t)); err != nil {
		t.Errorf("closing the client: %v", err)
	}
}

// ctx returns a context that bounds one step of a test and works during its cleanup.
func ctx(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// worker starts a worker that is stopped when the test ends.
func (r *rig) worker(config client.WorkerConfig, handle client.Handler) *client.Worker {
	r.t.Helper()
	w, err := r.StartWorker(ctx(r.t), config, handle)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if err := w.Stop(ctx(r.t)); err != nil {
			r.t.Errorf("stopping the worker: %v", err)
		}
	})
	return w
}

// outcomes waits for n outcomes.
func (r *rig) outcomes(n int, f client.OutcomeFilter) []client.Outcome {
	r.t.Helper()
	if f.Since.IsZero() {
		f.Since = time.Unix(1, 0)
	}
	var all []client.Outcome
	for o, err := range r.Outcomes(ctx(r.t), f) {
		if err != nil {
			r.t.Fatal(err)
		}
		if all = append(all, o); len(all) == n {
			return all
		}
	}
	r.t.Fatalf("got %d outcomes, want %d: %+v", len(all), n, all)
	return nil
}
