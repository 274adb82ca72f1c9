package opstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// firstFull is the pause before another publish after a refusal by a full store, which
	// doubles up to longestFull. It leaves time for a retry before the refusal is forgotten.
	firstFull   = refusedFor - longestPause
	longestFull = 8 * firstFull
)

// errFull says that a message was not published, because it would not be stored now.
var errFull = errors.New("the store is full")

// teller publishes messages that plain subscribers hear as well as a stream. They also hear
// what the stream does not store, because it is missing or full. So after a failure the teller
// publishes only once the stream is there and a store that was full may have room, else the
// same would be told with every try. It is safe for concurrent use.
type teller struct {
	js      jetstream.JetStream
	stream  string
	storage *Storage

	mu       sync.Mutex // guards the fields below
	doubtful bool       // whether the last publish failed
	// refused is when a full store refused the last time, zero if it has stored since; pause is
	// for how long nothing is published then, and freed how often the account had been freed.
	refused time.Time
	pause   time.Duration
	freed   uint64
}

// publish publishes a message and waits until it is stored. If it is not published, the error
// is one that passes.
func (t *teller) publish(ctx context.Context, msg *nats.Msg) (*jetstream.PubAck, error) {
	doubtful, err := t.begin()
	if err != nil {
		return nil, err
	}
	if doubtful {
		if _, err := t.js.Stream(ctx, t.stream); err != nil {
			return nil, fmt.Errorf("looking for stream %s: %w", t.stream, err)
		}
	}
	ack, err := t.js.PublishMsg(ctx, msg)
	t.end(err)
	return ack, err
}

// begin returns an error while the store is full. Of the publishes after a pause the first
// finds out, and the others wait for what it finds.
func (t *teller) begin() (doubtful bool, err error) {
	freed := t.storage.timesFreed()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.refused.IsZero() {
		return t.doubtful, nil
	}
	now := time.Now()
	if now.Sub(t.refused) < t.pause && freed == t.freed {
		return t.doubtful, errFull
	}
	t.refused, t.freed = now, freed
	return t.doubtful, nil
}

// end records how a publish ended.
func (t *teller) end(err error) {
	freed := t.storage.timesFreed()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.doubtful = err != nil
	switch {
	case err == nil:
		t.refused, t.pause = time.Time{}, 0
	case fullness(err) != "":
		t.refused, t.freed = time.Now(), freed
		t.pause = min(max(2*t.pause, firstFull), longestFull)
	}
}
