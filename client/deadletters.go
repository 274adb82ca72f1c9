package client

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
)

// DeadLetters gives access to the operations that finally failed. It works on their stream,
// whether or not a service is running. It is safe for concurrent use.
type DeadLetters struct{ client *Client }

// DeadLetters returns the access to the dead letters.
func (c *Client) DeadLetters() DeadLetters { return DeadLetters{c} }

// DeadLetterFilter selects dead letters. The zero value selects all of them.
type DeadLetterFilter = events.DeadLetterFilter

// ErrFilterTooWide means that [DeadLetters.ReplayAll] or [DeadLetters.DiscardAll] refused a
// filter that selects every dead letter. To act on all of them, iterate over [DeadLetters.List].
var ErrFilterTooWide = errors.New("client: the filter selects every dead letter")

// ErrTruncated means that a dead letter cannot be replayed because its payload was too large to
// be kept whole.
var ErrTruncated = errors.New("client: only part of the payload was kept")

// List iterates over the dead letters that f selects, oldest first, or in the order of f.IDs.
// Dead letters added meanwhile are included, those removed are not. An error ends the iteration;
// it is [ErrNoStream] if no service has ever run.
func (d DeadLetters) List(ctx context.Context, f DeadLetterFilter) iter.Seq2[*events.DeadLetter, error] {
	return func(yield func(*events.DeadLetter, error) bool) {
		if err := d.client.connected(); err != nil {
			yield(nil, err)
			return
		}
		for letter, err := range d.client.letters.List(ctx, f) {
			if err != nil {
				yield(nil, fmt.Errorf("client: listing dead letters: %w", orNoStream(err)))
				return
			}
			if !yield(letter, nil) {
				return
			}
		}
	}
}

// Get returns the dead letter of the operation with this id, or [ErrNotFound].
func (d DeadLetters) Get(ctx context.Context, id string) (*events.DeadLetter, error) {
	for letter, err := range d.List(ctx, DeadLetterFilter{IDs: []string{id}, Limit: 1}) {
		return letter, err
	}
	return nil, fmt.Errorf("client: dead letter %q: %w", oneLine(id), ErrNotFound)
}

// Replay asks the service to run a dead letter again as a fresh operation that keeps its history,
// and returns once the request is stored. The dead letter is removed before the first attempt.
// Asking twice replays it once. The error is [ErrNotFound], [ErrTruncated], or one from NATS.
func (d DeadLetters) Replay(ctx context.Context, id string) error {
	letter, err := d.Get(ctx, id)
	switch {
	case err != nil:
		return err
	case letter.Truncated > 0:
		return fmt.Errorf("client: replaying dead letter %s: %w", id, ErrTruncated)
	}
	if err := d.client.letters.Replay(ctx, letter); err != nil {
		return fmt.Errorf("client: %w", orNoStream(err))
	}
	return nil
}

// Discard removes a dead letter for good. The error is [ErrNotFound] or one from NATS.
func (d DeadLetters) Discard(ctx context.Context, id string) error {
	letter, err := d.Get(ctx, id)
	if err != nil {
		return err
	}
	if err := d.client.letters.Discard(ctx, letter); err != nil {
		return fmt.Errorf("client: %w", err)
	}
	return nil
}

// ReplayAll replays the dead letters that f selects (see [DeadLetters.Replay]) and returns how
// many requests were stored. It skips those whose payload was truncated. After an error, calling
// it again continues with the rest. It returns [ErrFilterTooWide] if f selects every dead letter.
func (d DeadLetters) ReplayAll(ctx context.Context, f DeadLetterFilter) (int, error) {
	if f.Everything() {
		return 0, ErrFilterTooWide
	}
	var replays replays
	for letter, err := range d.List(ctx, f) {
		if err != nil {
			return replays.stored, err
		}
		if letter.Truncated > 0 {
			continue
		}
		ack, err := d.client.js.PublishMsgAsync(d.client.letters.ReplayMessage(letter))
		if err != nil {
			return replays.stored, fmt.Errorf("client: replaying dead letter %s: %w", letter.ID, err)
		}
		if err := replays.sent(ctx, ack); err != nil {
			return replays.stored, err
		}
	}
	err := replays.await(ctx)
	return replays.stored, err
}

// maxReplays bounds the replay requests that are unacknowledged at once.
const maxReplays = 256

// replays counts the stored replay requests and tracks the unacknowledged ones.
type replays struct {
	pending []jetstream.PubAckFuture
	stored  int
}

// sent adds a request, and awaits all pending ones once there are maxReplays.
func (r *replays) sent(ctx context.Context, ack jetstream.PubAckFuture) error {
	if r.pending = append(r.pending, ack); len(r.pending) < maxReplays {
		return nil
	}
	return r.await(ctx)
}

// await waits until all pending requests are stored.
func (r *replays) await(ctx context.Context) error {
	for _, ack := range r.pending {
		select {
		case <-ack.Ok():
			r.stored++
		case err := <-ack.Err():
			return fmt.Errorf("client: replaying dead letters: %w", orNoStream(err))
		case <-ctx.Done():
			return fmt.Errorf("client: replaying dead letters: %w", ctx.Err())
		}
	}
	r.pending = r.pending[:0]
	return nil
}

// DiscardAll removes the dead letters that f selects for good and returns how many it removed. It
// returns [ErrFilterTooWide] if f selects every dead letter.
func (d DeadLetters) DiscardAll(ctx context.Context, f DeadLetterFilter) (int, error) {
	if f.Everything() {
		return 0, ErrFilterTooWide
	}
	done := 0
	for letter, err := range d.List(ctx, f) {
		if err != nil {
			return done, err
		}
		switch err := d.client.letters.Discard(ctx, letter); {
		case err == nil:
			done++
		case !errors.Is(err, ErrNotFound): // removed by somebody else
			return done, fmt.Errorf("client: %w", err)
		}
	}
	return done, nil
}
