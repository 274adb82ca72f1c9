// Package rig starts the service for the tests of the examples.
package rig

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/client"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/scheduler/gate"
	"github.com/rebound-mq/rebound/scheduler/policy"
	"github.com/rebound-mq/rebound/schemas"
)

// Patience bounds what takes an example seconds.
const Patience = time.Minute

// Start starts a NATS server and one instance of the service with a policy file, which is also in
// force for clients, and returns a connection to the server. Everything is stopped when the test
// ends.
func Start(t *testing.T, policies string) *nats.Conn {
	t.Helper()
	url := testkit.Server(t).ClientURL()
	set, err := policy.Parse("test.yaml", []byte(policies))
	if err != nil {
		t.Fatalf("the test's policies are invalid: %v", err)
	}
	service, err := handlers.Start(Context(t), testkit.Connect(t, url), handlers.Config{
		Policies: set, Logger: testkit.Logger(t),
		// A busy machine must not cause backpressure.
		Backpressure: gate.Limits{StoreDelay: time.Hour},
	})
	if err != nil {
		t.Fatalf("starting the service: %v", err)
	}
	t.Cleanup(func() {
		if err := service.Stop(Context(t)); err != nil {
			t.Errorf("stopping the service: %v", err)
		}
	})
	nc := testkit.Connect(t, url)
	apply(t, nc, policies)
	return nc
}

// apply puts policies in force as "rebound policy apply" does.
func apply(t *testing.T, nc *nats.Conn, policies string) {
	t.Helper()
	request, err := json.Marshal(schemas.PolicySource{Name: "test.yaml", Source: policies})
	if err != nil {
		t.Fatal(err)
	}
	reply, err := nc.RequestWithContext(Context(t), "rebound.policy.apply", request)
	if err == nil {
		err = client.ErrorFromReply(reply)
	}
	if err != nil {
		t.Fatalf("applying the test's policies: %v", err)
	}
}

// Client returns a client that is closed when the test ends.
func Client(t *testing.T, nc *nats.Conn) *client.Client {
	t.Helper()
	c, err := client.New(Context(t), client.Config{Conn: nc, Logger: testkit.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(Context(t)); err != nil {
			t.Errorf("closing the client: %v", err)
		}
	})
	return c
}

// Outcomes waits for n outcomes, in the order in which they were stored.
func Outcomes(t *testing.T, c *client.Client, n int) []client.Outcome {
	t.Helper()
	var all []client.Outcome
	for outcome, err := range c.Outcomes(Context(t), client.OutcomeFilter{Since: time.Unix(1, 0)}) {
		if err != nil {
			t.Fatal(err)
		}
		if all = append(all, outcome); len(all) == n {
			return all
		}
	}
	t.Fatalf("got %d outcomes, want %d: %+v", len(all), n, all)
	return nil
}

// Context returns a context that bounds one step of a test and works during its cleanup.
func Context(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	t.Cleanup(cancel)
	return ctx
}
