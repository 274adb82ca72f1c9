package client

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
)

// DeadLetters gives access to the operations that finally failed. It works on
// their stream, whether or not a service is running. It is safe for concurrent
// use.
type DeadLetters struct{ client *Client }

// DeadLetters returns the access to the dead letters.
func (c *Client) DeadLetters() DeadLetters { return DeadLetters{c} }

// DeadLetterFilter selects dead letters. The zero value selects all of them.
type DeadLetterFilter = events.DeadLetterFilter

// ErrFilterTooWide says that [DeadLetters.ReplayAll] and [DeadLetters.DiscardAll] refuse a
// filter that selects every dead letter. To act on all, iterate over [DeadLetters.List].
var ErrFilterTooWide = errors.New("client: the filter selects every dead letter")

// ErrTruncated says that a dead letter cannot be replayed because its payload was
// too large to be kept whole.
var ErrTruncated = errors.New("client: only a part of the payload was kept")

// List iterates over the dead letters that f selects, oldest first, or in the
// order of f.IDs. What is added meanwhile is included, what is removed is not. An
// error ends the iteration; it is [ErrNoStream] when no service has ever run.
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

// Get returns the dead letter of an operation by its id, or [ErrNotFound].
func (d DeadLetters) Get(ctx context.Context, id string) (*events.DeadLetter, error) {
	for letter, err := range d.List(ctx, DeadLetterFilter{IDs: []string{id}, Limit: 1}) {
		return letter, err
	}
	return nil, fmt.Errorf("client: dead letter %q: %w", oneLine(id), ErrNotFound)
}

// Replay asks for a dead letter to be submitted again as a fresh operation with
// its history, and returns when the request is stored. The dead letter goes when a
// service has taken the operation in. Asking twice for the same one replays it
// once. The error is [ErrNotFound], [ErrTruncated], or that of NATS.
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

// Discard removes a dead letter for good. The error is [ErrNotFound] or that of
// NATS.
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

// ReplayAll replays the dead letters that f selects, see [DeadLetters.Replay], and returns
// how many of these requests are stored. It leaves out those whose payload was truncated.
// After an error the same call goes on with the rest. It returns [ErrFilterTooWide] for a
// filter that selects every dead letter.
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

// maxReplays is how many replays may be unacknowledged at once.
const maxReplays = 256

// replays counts the replays that are stored and keeps those that are on their way.
type replays struct {
	onTheWay []jetstream.PubAckFuture
	stored   int
}

// sent adds a replay, and waits for all that are on their way once they are many.
func (r *replays) sent(ctx context.Context, ack jetstream.PubAckFuture) error {
	if r.onTheWay = append(r.onTheWay, ack); len(r.onTheWay) < maxReplays {
		return nil
	}
	return r.await(ctx)
}

// await waits until all replays that are on their way are stored.
func (r *replays) await(ctx context.Context) error {
	for _, ack := range r.onTheWay {
		select {
		case <-ack.Ok():
			r.stored++
		case err := <-ack.Err():
			return fmt.Errorf("client: replaying dead letters: %w", orNoStream(err))
		case <-ctx.Done():
			return fmt.Errorf("client: replaying dead letters: %w", ctx.Err())
		}
	}
	r.onTheWay = r.onTheWay[:0]
	return nil
}

// DiscardAll removes the dead letters that f selects for good and returns how many it
// removed. It returns [ErrFilterTooWide] for a filter that selects every dead letter.
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
		case !errors.Is(err, ErrNotFound): // somebody else was faster
			return done, fmt.Errorf("client: %w", err)
		}
	}
	return done, nil
}
