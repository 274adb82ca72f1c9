package cli

import (
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/schemas"
)

// orders makes the stream ORDERS with a consumer that gives up after n deliveries.
func (c *cli) orders(n int) {
	c.t.Helper()
	_, err := c.js.CreateStream(c.t.Context(), jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.*"}})
	if err == nil {
		_, err = c.js.CreateConsumer(c.t.Context(), "ORDERS", jetstream.ConsumerConfig{Durable: "worker", AckPolicy: jetstream.AckExplicitPolicy, MaxDeliver: n})
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

func TestAdopt_AddsListsAndRemovesAConsumer(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.orders(3)
	c.fails(exitFailure, "no service answers", "adopt", "--stream", "ORDERS", "--consumer", "worker")
	c.service()
	r := c.run("adopt", "--stream", "ORDERS", "--consumer", "worker", "--service", "orders", "--operation", "process", "--target", "orders-worker.process")
	if r.code != exitOK || !strings.Contains(r.stderr, "is adopted; what it gives up becomes operations of orders:process, which go to orders-worker.process") {
		t.Errorf("adopting gave %+v", r)
	}
	if r := c.run("adopt", "--stream", "ORDERS", "--consumer", "worker"); r.code != exitOK || !strings.Contains(r.stderr, "is adopted anew") {
		t.Errorf("adopting again gave %+v", r)
	}
	if got := c.ok("adopt", "list"); !strings.Contains(got, "ORDERS.worker") {
		t.Errorf("the list is\n%s", got)
	}
	list := jsonLines[schemas.AdoptedConsumer](t, c.ok("adopt", "list", "--output", "json"))
	if len(list) != 1 || list[0].Stream != "ORDERS" || list[0].Consumer != "worker" || list[0].Service != "ORDERS" || list[0].Target != "ORDERS.worker" {
		t.Errorf("the list is %+v", list)
	}
	if err := c.js.DeleteConsumer(t.Context(), "ORDERS", "worker"); err != nil {
		t.Fatal(err)
	}
	if r := c.run("adopt", "list"); r.code != exitOK || !strings.Contains(r.stderr, "warning: worker of ORDERS: consumer worker of stream ORDERS: the stream has no such consumer") {
		t.Errorf("without the consumer the list gave %+v", r)
	}
	if r := c.run("adopt", "remove", "--stream", "ORDERS", "--consumer", "worker"); r.code != exitOK || !strings.Contains(r.stderr, "is adopted no more") {
		t.Errorf("leaving it alone gave %+v", r)
	}
	if got := c.ok("adopt", "list", "--output", "json"); got != "" {
		t.Errorf("afterwards the list is %s", got)
	}
}

func TestAdopt_RefusesInOneSentence(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.orders(30)
	c.service()
	c.fails(exitUsage, "--stream and --consumer must be given", "adopt")
	c.fails(exitUsage, "--consumer must be given", "adopt", "remove", "--stream", "ORDERS")
	c.fails(exitUsage, `has the character '.'`, "adopt", "--stream", "ORDERS", "--consumer", "worker", "--service", "a.b")
	c.fails(exitUsage, `takes no arguments, and "lst" is one`, "adopt", "lst")
	c.fails(exitFailure, "no such consumer", "adopt", "--stream", "ORDERS", "--consumer", "nobody")
	c.fails(exitFailure, "is a subject of stream ORDERS itself", "adopt", "--stream", "ORDERS", "--consumer", "worker", "--target", "orders.new")
	c.fails(exitFailure, "the consumer is not adopted", "adopt", "remove", "--stream", "ORDERS", "--consumer", "worker")
	if r := c.run("adopt", "--stream", "ORDERS", "--consumer", "worker"); r.code != exitOK || !strings.Contains(r.stderr, "warning: consumer worker delivers 30 times and the policy allows 30 attempts") {
		t.Errorf("a consumer that delivers as often as the policy allows gave %+v", r)
	}
}
