package keeper

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/time/rate"

	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/internal/streams"
)

const (
	// droppedEvery is how often dropped messages are looked for, and droppedReads how many
	// messages of a consumer are read at most each time.
	droppedEvery = 5 * time.Second
	droppedReads = 128
)

// Puller pulls a consumer and can be handed what the client library dropped of it.
type Puller interface {
	Stream() string
	Name() string
	// HandleDropped handles a message and removes it.
	HandleDropped(ctx context.Context, m *jetstream.RawStreamMsg, remove func(context.Context) error)
}

// DroppedSweeper finds the messages that nats.go drops instead of delivering them: it takes
// one without payload that has the header Status for a status of the server. What Rebound
// stores has no such header, so these are what others publish. A message that was dropped is
// delivered, dropped and delivered again for ever, and the ack floor of its consumer stays
// below it.
type DroppedSweeper struct {
	js      jetstream.JetStream
	pullers []Puller
	leads   func() bool
	log     *slog.Logger
	warn    rate.Sometimes
	looks   map[Puller]look // the last ones; of the sweeping goroutine
}

// look is how far a consumer's unacknowledged messages were read.
type look struct{ floor, next uint64 }

// NewDroppedSweeper returns a sweeper of what the consumers of the pullers delivered in vain.
// It works while leads reports that no other instance leads.
func NewDroppedSweeper(js jetstream.JetStream, pullers []Puller, leads func() bool, log *slog.Logger) *DroppedSweeper {
	return &DroppedSweeper{js: js, pullers: pullers, leads: leads, log: log, warn: rate.Sometimes{First: 1, Interval: warnEvery}, looks: make(map[Puller]look)}
}

// Run sweeps until ctx ends.
func (s *DroppedSweeper) Run(ctx context.Context) {
	for leading(ctx, droppedEvery, s.leads) {
		for _, p := range s.pullers {
			found, err := s.sweep(ctx, p)
			if found > 0 {
				s.log.Info("messages that look like a status of the NATS server were read from the stream, because its client drops them", "consumer", p.Name(), "messages", found)
			}
			if err != nil && ctx.Err() == nil {
				s.warn.Do(func() {
					s.log.Warn("looking for messages that the NATS client dropped failed and will be retried", "error", err)
				})
			}
		}
	}
}

// sweep reads some messages that a consumer has delivered and that are not acknowledged, if its
// ack floor has not moved since the last look. It hands those to the puller that were dropped
// and returns how many that were.
func (s *DroppedSweeper) sweep(ctx context.Context, p Puller) (found int, err error) {
	info, filter, err := infoOf(ctx, s.js, p.Stream(), p.Name())
	if err != nil {
		return 0, err
	}
	at := s.looks[p]
	if info.NumAckPending == 0 || at.floor != info.AckFloor.Stream || at.next == 0 {
		s.looks[p] = look{floor: info.AckFloor.Stream, next: info.AckFloor.Stream + 1}
		return 0, nil
	}
	defer func() { s.looks[p] = at }()
	for range droppedReads {
		m, err := streams.LeaderGet(ctx, s.js, p.Stream(), streams.NextBySubject(at.next, filter))
		if err == nil && m.Sequence > info.Delivered.Stream || streams.IsGone(err) {
			at.next = at.floor + 1
			return found, nil
		}
		if err != nil {
			return found, fmt.Errorf("reading what consumer %s has delivered: %w", p.Name(), err)
		}
		at.next = m.Sequence + 1
		if wire.LooksLikeStatus(m.Header, m.Data) {
			found++
			p.HandleDropped(ctx, m, func(ctx context.Context) error {
				return remove(ctx, s.js, p.Stream(), m.Sequence)
			})
		}
	}
	return found, nil
}
