//go:build linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/chaos/proof"
	"github.com/rebound-mq/rebound/internal/deadletter"
)

// drain waits until the streams of waiting operations are empty, but no longer than the bound.
func (h *history) drain(ctx context.Context, js jetstream.JetStream) error {
	h.record.Bound = h.config.Drain + h.kind.Settle
	empty := 0
	err := await(ctx, h.record.Bound, func(ctx context.Context) bool {
		n, err := outstanding(ctx, js)
		if err != nil || n > 0 {
			empty = 0
			return false
		}
		empty++
		return empty == 3
	})
	h.record.Drained = err == nil
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return ctx.Err()
}

// outstanding counts the messages that have not ended. It asks for the intake first, because
// operations go from there to the stream of waiting ones and never back.
func outstanding(ctx context.Context, js jetstream.JetStream) (uint64, error) {
	names := events.Streams{}
	total := uint64(0)
	for _, name := range []string{names.Intake(), names.Waiting()} {
		s, err := js.Stream(ctx, name)
		if err != nil {
			return 0, fmt.Errorf("counting the messages of stream %s: %w", name, err)
		}
		total += s.CachedInfo().State.Msgs
	}
	return total, nil
}

// sampled is how many dead letters are replayed at the end.
const sampled = 5

// replaySome replays some dead letters, which the target now accepts.
func (h *history) replaySome(ctx context.Context, js jetstream.JetStream) error {
	h.target.change(func(m *mood) { *m = mood{mercy: true} })
	letters, taken := deadletter.New(js, ""), 0
	for d, err := range letters.List(ctx, events.DeadLetterFilter{Limit: sampled}) {
		if err != nil {
			return fmt.Errorf("listing the dead letters: %w", err)
		}
		if h.replay(ctx, letters, d) {
			taken++
		}
	}
	if taken == 0 {
		return nil
	}
	return h.drain(ctx, js)
}

// replay replays one dead letter and reports whether the request was stored.
func (h *history) replay(ctx context.Context, letters *deadletter.Letters, d *events.DeadLetter) bool {
	if d.State == nil {
		return false
	}
	call, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := letters.Replay(call, d); err != nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.record.Replays = append(h.record.Replays, proof.Replay{ID: d.ID, Run: d.State.Replay, At: time.Now()})
	return true
}
