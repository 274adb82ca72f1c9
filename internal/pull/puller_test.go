package pull

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m, testkit.ProxyLeaks()...) }

// hold runs a puller until the test ends, which keeps in flight what it returns.
func hold(t *testing.T, nc *nats.Conn, source Source) <-chan *Message {
	t.Helper()
	came, done, draining := make(chan *Message, 2), make(chan struct{}), make(chan struct{})
	p := New(source, func(_ context.Context, m *Message) error {
		came <- m
		<-done
		return nil
	}, Config{Conn: nc, Limit: NewLimit(10, 1), Bytes: NewBytes(1 << 20), Draining: draining, Log: slog.New(slog.DiscardHandler)})
	var running sync.WaitGroup
	running.Go(func() { p.Run(context.WithoutCancel(t.Context())) }) // until it has drained
	t.Cleanup(func() {
		close(done)
		close(draining)
		running.Wait()
	})
	return came
}

func TestPuller_WhatAConsumerDeliveredThatIsGoneIsShared(t *testing.T) {
	t.Parallel()
	nc := testkit.Connect(t, testkit.Server(t).ClientURL())
	js := testkit.JetStream(t, nc)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Retention: jetstream.WorkQueuePolicy}); err != nil {
		t.Fatal(err)
	}
	came := hold(t, nc, Durable(js, "S", jetstream.ConsumerConfig{Durable: "c", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Minute}))
	testkit.Eventually(t, 10*time.Second, "the consumer", func() bool {
		_, err := js.Consumer(t.Context(), "S", "c")
		return err == nil
	})
	if _, err := js.Publish(t.Context(), "s", nil); err != nil {
		t.Fatal(err)
	}
	first := <-came
	if first.Shared() {
		t.Error("what was just delivered is shared, want it not while its consumer is there")
	}
	if err := js.DeleteConsumer(t.Context(), "S", "c"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 10*time.Second, "what the consumer had delivered to be shared", first.Shared)
	if again := <-came; !again.Shared() {
		t.Error("what the new consumer delivers again is not shared")
	}
}

func TestPuller_WhatALeaderDeliveredThatWasKilledIsShared(t *testing.T) {
	t.Parallel()
	cluster := testkit.Cluster(t, 3)
	js := testkit.JetStream(t, testkit.Connect(t, cluster.URL()))
	config := jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Retention: jetstream.WorkQueuePolicy, Replicas: 3}
	if _, err := js.CreateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	consumer := jetstream.ConsumerConfig{Durable: "c", AckPolicy: jetstream.AckExplicitPolicy, AckWait: 10 * time.Minute}
	c, err := js.CreateConsumer(t.Context(), "S", consumer)
	if err != nil {
		t.Fatal(err)
	}
	// The connection is to another server, so it does not break.
	leader := slices.Index([]string{"node-1", "node-2", "node-3"}, c.CachedInfo().Cluster.Leader)
	nc := testkit.Connect(t, cluster.URLs()[(leader+1)%3])
	came := hold(t, nc, Durable(testkit.JetStream(t, nc), "S", consumer))
	if _, err := js.Publish(t.Context(), "s", nil, jetstream.WithRetryAttempts(100)); err != nil {
		t.Fatal(err)
	}
	first := <-came
	if first.Shared() {
		t.Error("what was just delivered is shared, want it not while the leader lives that delivered it")
	}
	cluster.Kill(leader)
	testkit.Eventually(t, time.Minute, "what the leader had delivered to be shared", first.Shared)
	if reconnects := nc.Stats().Reconnects; reconnects > 0 {
		t.Errorf("the connection broke %d times, want it not to be the reason", reconnects)
	}
}

// Renewals that a leaf node cannot hand on are lost, and nothing says so.
func TestPuller_WhatItRenewedOutOfReachOfItsConsumerIsShared(t *testing.T) {
	t.Parallel()
	leaf := testkit.Leaf(t, "hub")
	hub := testkit.JetStream(t, testkit.Connect(t, leaf.Hub))
	if _, err := hub.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Retention: jetstream.WorkQueuePolicy}); err != nil {
		t.Fatal(err)
	}
	config := jetstream.ConsumerConfig{Durable: "c", AckPolicy: jetstream.AckExplicitPolicy, AckWait: 10 * time.Second}
	nc := testkit.Connect(t, leaf.URL)
	came := hold(t, nc, Durable(testkit.JetStreamIn(t, nc, "hub"), "S", config))
	var c jetstream.Consumer
	testkit.Eventually(t, 10*time.Second, "the consumer", func() bool {
		var err error
		c, err = hub.Consumer(t.Context(), "S", "c")
		return err == nil
	})
	publish := func() {
		t.Helper()
		if _, err := hub.Publish(t.Context(), "s", nil); err != nil {
			t.Fatal(err)
		}
	}
	publish()
	first := <-came
	if first.Shared() {
		t.Error("what was just delivered is shared, want it not while its lease can be renewed")
	}
	leaf.Link.Cut()
	again, err := c.Next(jetstream.FetchMaxWait(time.Minute))
	if err != nil {
		t.Fatalf("the message did not come to another instance once its lease was over: %v", err)
	}
	if !first.Shared() {
		t.Error("what another instance has, too, is not shared")
	}
	if err := again.Ack(); err != nil {
		t.Fatal(err)
	}
	leaf.Link.Mend()
	publish()
	<-came // it pulls again
	if !first.Shared() {
		t.Error("what another instance had, too, is no longer shared once the consumer can be reached again")
	}
	if reconnects := nc.Stats().Reconnects; reconnects > 0 {
		t.Errorf("the connection broke %d times, want it not to be the reason", reconnects)
	}
}
