package keeper

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/time/rate"

	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/internal/streams"
)

// ackedEvery is how often acknowledged messages are looked for.
const ackedEvery = 30 * time.Second

// Consumer names a consumer of a work queue.
type Consumer struct{ Stream, Name string }

// AckedSweeper removes messages that were acknowledged and that their work queue still
// has. A server alone stores the acknowledgement first and removes the message a moment
// later. If it is killed in between, it keeps the message and delivers it to nobody, so
// that it counts as waiting for ever (nats-server 2.15). Nothing is lost with the message:
// what follows from it was stored before it was acknowledged.
type AckedSweeper struct {
	js        jetstream.JetStream
	consumers []Consumer
	leads     func() bool
	log       *slog.Logger
	warn      rate.Sometimes
	floors    map[Consumer]uint64 // ack floors of the last look; of the sweeping goroutine
}

// NewAckedSweeper returns a sweeper of what the consumers acknowledged. It works while
// leads reports that no other instance leads.
func NewAckedSweeper(js jetstream.JetStream, consumers []Consumer, leads func() bool, log *slog.Logger) *AckedSweeper {
	return &AckedSweeper{
		js: js, consumers: consumers, leads: leads, log: log, warn: rate.Sometimes{First: 1, Interval: warnEvery}, floors: make(map[Consumer]uint64),
	}
}

// Run sweeps until ctx ends.
func (s *AckedSweeper) Run(ctx context.Context) {
	for leading(ctx, ackedEvery, s.leads) {
		for _, c := range s.consumers {
			removed, err := s.sweep(ctx, c)
			if removed > 0 {
				s.log.Warn("acknowledged messages that the server had kept were removed", "consumer", c.Name, "messages", removed)
			}
			if err != nil && ctx.Err() == nil {
				s.warn.Do(func() { s.log.Warn("looking for acknowledged messages failed and will be retried", "error", err) })
			}
		}
	}
}

// sweep removes what a consumer had acknowledged at the last look, up to its ack floor,
// below which nothing is in flight. It returns how many messages that were.
func (s *AckedSweeper) sweep(ctx context.Context, c Consumer) (removed int, err error) {
	info, filter, err := infoOf(ctx, s.js, c.Stream, c.Name)
	if err != nil {
		return 0, err
	}
	now := info.AckFloor.Stream
	floor := min(s.floors[c], now)
	s.floors[c] = now
	for next := uint64(1); next <= floor; removed++ {
		m, err := streams.LeaderGet(ctx, s.js, c.Stream, streams.NextBySubject(next, filter))
		switch {
		case streams.IsGone(err):
			return removed, nil
		case err != nil:
			return removed, fmt.Errorf("reading the first message for consumer %s: %w", c.Name, err)
		case m.Sequence > floor:
			return removed, nil
		}
		if err := remove(ctx, s.js, c.Stream, m.Sequence); err != nil {
			return removed, err
		}
		next = m.Sequence + 1
	}
	return removed, nil
}

// leading waits for the next sweep, while reports that no other instance leads. It returns false
// when ctx ends.
func leading(ctx context.Context, every time.Duration, leads func() bool) bool {
	for backoff.Sleep(ctx, every) {
		if leads() {
			return true
		}
	}
	return false
}

// infoOf returns what the leader of a consumer says of it, and its filter, > for none.
func infoOf(ctx context.Context, js jetstream.JetStream, stream, name string) (info *jetstream.ConsumerInfo, filter string, err error) {
	consumer, err := js.Consumer(ctx, stream, name)
	if err != nil {
		return nil, "", fmt.Errorf("reading consumer %s: %w", name, err)
	}
	info = consumer.CachedInfo()
	return info, cmp.Or(info.Config.FilterSubject, ">"), nil
}

// remove removes a message, which may be gone already.
func remove(ctx context.Context, js jetstream.JetStream, stream string, sequence uint64) error {
	if err := streams.Delete(ctx, js, stream, sequence); err != nil && !streams.IsGone(err) {
		return fmt.Errorf("removing message %d of stream %s: %w", sequence, stream, err)
	}
	return nil
}
