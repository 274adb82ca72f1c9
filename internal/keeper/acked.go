package keeper

import (
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
	for backoff.Sleep(ctx, ackedEvery) {
		if !s.leads() {
			continue
		}
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
	now, filter, err := s.acked(ctx, c)
	if err != nil {
		return 0, err
	}
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
		if err := streams.Delete(ctx, s.js, c.Stream, m.Sequence); err != nil && !streams.IsGone(err) {
			return removed, fmt.Errorf("removing an acknowledged message of stream %s: %w", c.Stream, err)
		}
		next = m.Sequence + 1
	}
	return removed, nil
}

// acked returns the sequence up to which a consumer has acknowledged everything, and its
// filter.
func (s *AckedSweeper) acked(ctx context.Context, c Consumer) (floor uint64, filter string, err error) {
	consumer, err := s.js.Consumer(ctx, c.Stream, c.Name)
	if err != nil {
		return 0, "", fmt.Errorf("reading consumer %s: %w", c.Name, err)
	}
	info := consumer.CachedInfo()
	if filter = info.Config.FilterSubject; filter == "" {
		filter = ">"
	}
	return info.AckFloor.Stream, filter, nil
}
