package adoption_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/adoption"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestRelay_HandsOnWhatNobodyClaimed(t *testing.T) {
	nc, js, stream := advisories(t)
	draining := make(chan struct{})
	relay := listening(t, adoption.RelayConfig{
		Conn: nc, JetStream: js, Stream: stream, Draining: draining,
		Claimed: func(_ context.Context, given adoption.Advisory) (bool, error) { return given.Sequence == 18, nil },
	})
	claimed := strings.NewReplacer(`"X1"`, `"X3"`, `:17,`, `:18,`).Replace(maxDeliver)
	advise(t, nc, maxDeliver, claimed, "no advisory")
	close(draining)
	relay.Run(t.Context())

	captured, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	m, err := captured.GetMsg(t.Context(), 1)
	if err != nil || string(m.Data) != maxDeliver || m.Subject != (events.Subjects{}).Advisory("ORDERS", "worker") {
		t.Errorf("the stream has %+v, %v, want the advisory that nobody claimed", m, err)
	}
	if n := captured.CachedInfo().State.Msgs; n != 1 {
		t.Errorf("the stream has %d messages, want the one that nobody claimed", n)
	}
	// Once it has ended it listens no more.
	if err := relay.Listen(t.Context(), []adoption.Adoption{worker()}); err != nil || nc.NumSubscriptions() > 1 {
		t.Errorf("a relay that has ended listens again: %v, %d subscriptions", err, nc.NumSubscriptions())
	}
}

func TestRelay_InstanceHandsOnWhatOneThatDiedHeardToo(t *testing.T) {
	nc, js, stream := advisories(t)
	draining := make(chan struct{})
	config := adoption.RelayConfig{
		Conn: nc, JetStream: js, Stream: stream, Draining: draining,
		Claimed: func(context.Context, adoption.Advisory) (bool, error) { return false, nil },
	}
	listening(t, config) // and is never run, as if its instance was killed
	relay := listening(t, config)
	const n = 20
	for i := range n {
		advise(t, nc, strings.NewReplacer(`"X1"`, fmt.Sprintf(`"Y%d"`, i), `:17,`, fmt.Sprintf(`:%d,`, 100+i)).Replace(maxDeliver))
	}
	close(draining)
	relay.Run(t.Context())

	captured, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	if got := captured.CachedInfo().State.Msgs; got != n {
		t.Errorf("one of two instances handed on %d advisories, want all %d", got, n)
	}
}

// advisories makes the stream of advisories, which captures only those of another consumer.
func advisories(t *testing.T) (nc *nats.Conn, js jetstream.JetStream, stream string) {
	t.Helper()
	nc = testkit.Connect(t, testkit.Server(t).ClientURL())
	js = testkit.JetStream(t, nc)
	capture := adoption.NewCapture(js, "", 1)
	if err := capture.Listen(t.Context(), []adoption.Adoption{{Stream: "OTHER", Consumer: "worker"}}); err != nil {
		t.Fatal(err)
	}
	return nc, js, capture.Stream()
}

// listening returns a relay that listens on the advisories of the worker.
func listening(t *testing.T, config adoption.RelayConfig) *adoption.Relay {
	t.Helper()
	config.Log = testkit.Logger(t)
	relay := adoption.NewRelay(config)
	if err := relay.Listen(t.Context(), []adoption.Adoption{worker()}); err != nil {
		t.Fatal(err)
	}
	return relay
}

// advise sends advisories as the server does.
func advise(t *testing.T, nc *nats.Conn, data ...string) {
	t.Helper()
	for _, d := range data {
		if err := nc.Publish("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.ORDERS.worker", []byte(d)); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.FlushTimeout(5 * time.Second); err != nil {
		t.Fatal(err)
	}
}
