package adoption_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/adoption"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestRelay_HandsOnWhatNobodyClaimed(t *testing.T) {
	nc := testkit.Connect(t, testkit.Server(t).ClientURL())
	js := testkit.JetStream(t, nc)
	capture := adoption.NewCapture(js, "", 1)
	if err := capture.Listen(t.Context(), []adoption.Adoption{{Stream: "OTHER", Consumer: "worker"}}); err != nil {
		t.Fatal(err)
	}
	draining := make(chan struct{})
	relay := adoption.NewRelay(adoption.RelayConfig{
		Conn: nc, JetStream: js, Subjects: events.Subjects{}, Stream: capture.Stream(), Group: "test",
		Claimed:  func(_ context.Context, given adoption.Advisory) (bool, error) { return given.Sequence == 18, nil },
		Draining: draining, Log: testkit.Logger(t),
	})
	if err := relay.Listen(t.Context(), []adoption.Adoption{worker()}); err != nil {
		t.Fatal(err)
	}
	claimed := strings.NewReplacer(`"X1"`, `"X3"`, `:17,`, `:18,`).Replace(maxDeliver)
	for _, data := range []string{maxDeliver, claimed, "no advisory"} {
		if err := nc.Publish("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.ORDERS.worker", []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.FlushTimeout(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	close(draining)
	relay.Run(t.Context())

	stream, err := js.Stream(t.Context(), capture.Stream())
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetMsg(t.Context(), 1)
	if err != nil || string(m.Data) != maxDeliver || m.Subject != (events.Subjects{}).Advisory("ORDERS", "worker") {
		t.Errorf("the stream has %+v, %v, want the advisory that nobody claimed", m, err)
	}
	if n := stream.CachedInfo().State.Msgs; n != 1 {
		t.Errorf("the stream has %d messages, want the one that nobody claimed", n)
	}
	// Once it has ended it listens no more.
	if err := relay.Listen(t.Context(), []adoption.Adoption{worker()}); err != nil || nc.NumSubscriptions() > 1 {
		t.Errorf("a relay that has ended listens again: %v, %d subscriptions", err, nc.NumSubscriptions())
	}
}
