package natspath

import (
	"context"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/bench/compare"
	"github.com/rebound-mq/rebound/events"
)

// day is how long what measures memory waits.
const day = 24 * time.Hour

// submitToRebound returns the message by which a service hands over what has failed.
func submitToRebound(_ int, payload []byte, delay time.Duration) *nats.Msg {
	m := &nats.Msg{Subject: "retry.submit.bench.op", Data: payload}
	if delay > 0 {
		m.Header = nats.Header{headerRetryAfter: {strconv.FormatFloat(delay.Seconds(), 'f', 6, 64)}}
	}
	return m
}

// hearOutcomes counts the outcomes as a plain subscriber.
func (h *harness) hearOutcomes() error {
	_, err := h.nc.Subscribe("retry.outcome.retrySuccess.>", func(*nats.Msg) { h.end() })
	return err
}

// readOutcomes counts the outcomes as a durable consumer that acks each of them.
func (h *harness) readOutcomes(ctx context.Context) error {
	var names events.Streams
	c, err := h.js.CreateConsumer(ctx, names.Outcomes(), jetstream.ConsumerConfig{
		Durable: "bench", FilterSubject: "retry.outcome.>", AckPolicy: jetstream.AckExplicitPolicy,
		DeliverPolicy: jetstream.DeliverNewPolicy, MaxDeliver: -1, MaxAckPending: inFlight,
	})
	if err != nil {
		return err
	}
	_, err = c.Consume(func(m jetstream.Msg) {
		if m.Ack() == nil {
			h.end()
		}
	})
	return err
}

// parkInRebound has n operations wait for a day, and returns once the stream has them.
func (h *harness) parkInRebound(ctx context.Context, n, size int) error {
	var names events.Streams
	if err := h.submitAll(ctx, compare.Load{Operations: n, Size: size, Delay: day}, submitToRebound); err != nil {
		return err
	}
	// Not counted is what the stream had before: a run ends with the outcomes, and the last of its
	// operations may be acknowledged only afterwards.
	h.parked += n
	return await(ctx, time.Hour, func() (bool, error) {
		waiting, err := h.messages(ctx, names.Waiting())
		if err != nil || waiting < h.parked {
			return false, err
		}
		submissions, err := h.messages(ctx, names.Intake())
		return submissions == 0, err
	})
}
