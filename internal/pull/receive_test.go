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
func newConsumer(t *testing.T) (jetstream.JetStream, *streamConsumer) {
	t.Helper()
	js := testkit.JetStream(t, testkit.Connect(t, testkit.Server(t).ClientURL()))
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Storage: jetstream.MemoryStorage}); err != nil {
		t.Fatal(err)
	}
	source := Durable(js, "S", jetstream.ConsumerConfig{Durable: "c", AckPolicy: jetstream.AckExplicitPolicy, AckWait: 10 * time.Minute, MaxAckPending: -1})
	c, err := source.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(source.Close)
	return js, c.(*streamConsumer)
}

// TestSource_WhatIsBeingSentAsAPullIsStoppedIsDeliveredOnce stops pulls while the server sends
// them what has piled up.
func TestSource_WhatIsBeingSentAsAPullIsStoppedIsDeliveredOnce(t *testing.T) {
	t.Parallel()
	const n = 4 * MaxBatch
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
		err := c.Receive(ctx, MaxBatch, func(m Delivery, _ time.Time) {
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

// The server may be as slow as that, because its disk is.
func TestSource_WhatAPullBringsTooLateComesWithTheNext(t *testing.T) {
	t.Parallel()
	js, c := newConsumer(t)
	if _, err := js.Publish(t.Context(), "s", []byte("late")); err != nil {
		t.Fatal(err)
	}
	slow, err := c.conn.SubscribeSync("slow")
	if err != nil {
		t.Fatal(err)
	}
	server := c.next
	c.next = "slow"
	if err := c.Receive(t.Context(), 1, func(m Delivery, _ time.Time) { t.Errorf("received %v, want nothing", m) }); !errors.Is(err, errSilent) {
		t.Fatalf("a pull without an answer ends with %v, want %v", err, errSilent)
	}
	failed := time.Now()
	request, err := slow.NextMsg(10 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.conn.PublishRequest(server, request.Reply, request.Data); err != nil {
		t.Fatal(err)
	}
	c.next = server
	var got string
	err = c.Receive(t.Context(), 1, func(m Delivery, asked time.Time) {
		got = string(m.Data())
		if !asked.Before(failed) {
			t.Errorf("it was requested at %v, want before the first pull failed at %v", asked, failed)
		}
	})
	if got != "late" || err != nil {
		t.Errorf("the next pull brought %q, %v; want what the first one requested", got, err)
	}
	if len(c.asked) > 1 {
		t.Errorf("%d pulls have not ended, want at most the late one, whose end may come later", len(c.asked))
	}
}

func TestSource_PullThatIsLateForALeaseIsGivenUp(t *testing.T) {
	t.Parallel()
	_, c := newConsumer(t)
	c.lease = 0
	if _, err := c.begin("nobody.listens", nil); err != nil {
		t.Fatal(err)
	}
	if err := c.Receive(t.Context(), 1, func(m Delivery, _ time.Time) { t.Errorf("received %v, want nothing", m) }); err == nil || len(c.asked) > 1 {
		t.Errorf("the next pull ends with %v, and %d have not ended; want only itself, which is too short to bring anything", err, len(c.asked))
	}
}
