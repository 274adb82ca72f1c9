package pull

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/testkit"
)

// newConsumer returns a consumer of a new stream with the subject s.
func newConsumer(t *testing.T) (jetstream.JetStream, streamConsumer) {
	t.Helper()
	js := testkit.JetStream(t, testkit.Connect(t, testkit.Server(t).ClientURL()))
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Storage: jetstream.MemoryStorage}); err != nil {
		t.Fatal(err)
	}
	c, err := js.CreateConsumer(t.Context(), "S", jetstream.ConsumerConfig{Durable: "c", AckPolicy: jetstream.AckExplicitPolicy, AckWait: 10 * time.Minute, MaxAckPending: -1})
	if err != nil {
		t.Fatal(err)
	}
	return js, newStreamConsumer(js, "S", c)
}

// TestSource_WhatIsBeingSentAsAPullIsStoppedIsDeliveredOnce stops pulls while the server sends
// them what has piled up.
func TestSource_WhatIsBeingSentAsAPullIsStoppedIsDeliveredOnce(t *testing.T) {
	t.Parallel()
	const n = 5000
	js, c := newConsumer(t)
	for range n {
		if _, err := js.PublishAsync("s", nil, jetstream.WithStallWait(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	received, again := uint64(0), 0
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		err := c.Receive(ctx, 2*n, func(m Delivery, _ time.Time) {
			cancel() // as a stop does
			received++
			if meta, err := m.Metadata(); err != nil || meta.NumDelivered != 1 {
				again++
			}
		})
		cancel()
		if err != nil {
			t.Errorf("a pull failed: %v", err)
		}
	}
	info, err := c.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if again > 0 || received == 0 || info.Delivered.Consumer != received {
		t.Errorf("of %d deliveries %d were received, %d of them not for the first time; want all of them, for the first time", info.Delivered.Consumer, received, again)
	}
}

func TestSource_MessageThatLooksLikeAStatusIsReceived(t *testing.T) {
	t.Parallel()
	js, c := newConsumer(t)
	for _, status := range []string{"100", "408", "409"} {
		if _, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: "s", Header: nats.Header{"Status": {status}, "Description": {"Consumer Deleted"}}}); err != nil {
			t.Fatal(err)
		}
		var got []string
		err := c.Receive(t.Context(), 1, func(m Delivery, _ time.Time) { got = append(got, m.Headers().Get("Status")) })
		if err != nil || len(got) != 1 || got[0] != status {
			t.Errorf("received %q, %v; want the message of status %s", got, err, status)
		}
	}
}

func TestSource_PullEndsWhenTheServerSaysSoOrSaysNothing(t *testing.T) {
	t.Parallel()
	_, c := newConsumer(t)
	if _, err := c.conn.Subscribe("says.nothing", func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	for _, code := range []string{"408", "409"} {
		answer := &nats.Msg{Header: nats.Header{"Status": {code}, "Description": {"Leadership Change"}}}
		if _, err := c.conn.Subscribe("says."+code, func(m *nats.Msg) { _ = m.RespondMsg(answer) }); err != nil {
			t.Fatal(err)
		}
	}
	for next, end := range map[string]struct {
		want error // nil for any
		ok   bool
	}{
		c.next: {ok: true}, "says.408": {ok: true}, "says.409": {}, "says.nothing": {want: errSilent}, "nobody.listens": {want: nats.ErrNoResponders},
	} {
		c.next = next
		err := c.Receive(t.Context(), 1, func(m Delivery, _ time.Time) { t.Errorf("received %v, want nothing", m) })
		if (err == nil) != end.ok || end.want != nil && !errors.Is(err, end.want) {
			t.Errorf("a pull by %s ends with %v, want success: %t, or the error %v", next, err, end.ok, end.want)
		}
	}
}
