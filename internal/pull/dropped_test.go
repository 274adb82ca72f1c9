package pull

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func TestPuller_HandlesWhatWasDroppedAndRemovesItOnceItIsDone(t *testing.T) {
	for says, c := range map[string]struct {
		handle  func(stored *bool) error
		removed bool
	}{
		"what is done at once": {func(stored *bool) error { *stored = true; return nil }, true},
		"what can wait, which does not": {func(stored *bool) error {
			return Later(func(context.Context) error { *stored = true; return nil })
		}, true},
		"what fails": {func(stored *bool) error { *stored = true; return errors.New("no") }, false},
	} {
		t.Run(says, func(t *testing.T) {
			stored, removed := false, false
			limit := NewLimit(1, 1)
			p := New(newFakeSource(), func(context.Context, *Message) error { return c.handle(&stored) }, Config{
				Conn: new(nats.Conn), Limit: limit, Bytes: NewBytes(1 << 20), Later: NewQueue(limit), Log: slog.New(slog.DiscardHandler),
			})
			p.HandleDropped(t.Context(), &jetstream.RawStreamMsg{Subject: "s", Sequence: 7}, func(context.Context) error {
				removed = true
				return nil
			})
			if !stored || removed != c.removed {
				t.Errorf("handled: %v, removed: %v; want true and %v", stored, removed, c.removed)
			}
			if !limit.permits.TryAcquire(1) {
				t.Error("it still counts as in flight, want not once it is handled")
			}
		})
	}
}
