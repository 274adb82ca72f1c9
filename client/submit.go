package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Submit hands a failed operation to the service and returns once it is stored, whether or not a
// service is running. After an error the same submission may be made again, provided that it has
// an EventID: source and id identify it.
//
// The error is an [*events.RejectedError] if the service would not accept the submission,
// [ErrNoStream] if no stream exists to store it, and otherwise that of JetStream or of ctx.
func (c *Client) Submit(ctx context.Context, s Submission) (Receipt, error) {
	if err := c.connected(); err != nil {
		return Receipt{}, err
	}
	m, receipt, err := c.message(&s, time.Now())
	if err != nil {
		return Receipt{}, err
	}
	return c.store(ctx, m, receipt)
}

// store publishes a stamped submission.
func (c *Client) store(ctx context.Context, m *nats.Msg, receipt Receipt) (Receipt, error) {
	ack, err := c.js.PublishMsg(ctx, m)
	if err != nil {
		return Receipt{}, storing(receipt.ID, err)
	}
	return receipt.stored(ack), nil
}

func (r Receipt) stored(ack *jetstream.PubAck) Receipt {
	r.Stream, r.Sequence, r.Duplicate = ack.Stream, ack.Sequence, ack.Duplicate
	return r
}

// storing wraps the error of a submission.
func storing(id string, err error) error {
	return fmt.Errorf("client: storing operation %s: %w", id, orNoStream(err))
}

// orNoStream adds [ErrNoStream] to an error that means that the stream is missing.
func orNoStream(err error) error {
	for _, e := range []error{jetstream.ErrNoStreamResponse, jetstream.ErrStreamNotFound, nats.ErrNoResponders} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: %w", ErrNoStream, err)
		}
	}
	return err
}

// PendingSubmission is a submission sent but not yet acknowledged. It is safe for concurrent use.
type PendingSubmission struct {
	receipt Receipt
	ack     jetstream.PubAckFuture

	turn  chan struct{} // a lock of size 1, because ack delivers its result once; guards the fields below
	known bool
	err   error
}

// SubmitAsync sends a submission without waiting until it is stored; only
// [PendingSubmission.Wait] reports that. It blocks, until ctx ends at the latest, while too many
// submissions of the client are unacknowledged (4000, unless [Config.JetStream] sets another
// limit). Its errors are those of [Client.Submit].
func (c *Client) SubmitAsync(ctx context.Context, s Submission) (*PendingSubmission, error) {
	if err := c.connected(); err != nil {
		return nil, err
	}
	m, receipt, err := c.message(&s, time.Now())
	if err != nil {
		return nil, err
	}
	for {
		ack, err := c.js.PublishMsgAsync(m)
		switch {
		case err == nil:
			return &PendingSubmission{receipt: receipt, ack: ack, turn: make(chan struct{}, 1)}, nil
		case !errors.Is(err, jetstream.ErrTooManyStalledMsgs):
			return nil, storing(receipt.ID, err)
		case ctx.Err() != nil:
			return nil, storing(receipt.ID, ctx.Err())
		}
	}
}

// Wait waits until the submission is stored. It fails if no acknowledgement arrives within 10
// seconds, or within the timeout of [Config.JetStream]. Its errors are those of [Client.Submit].
// If ctx ended, Wait may be called again.
func (s *PendingSubmission) Wait(ctx context.Context) (Receipt, error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return Receipt{}, storing(s.receipt.ID, ctx.Err())
	}
	if !s.known {
		select {
		case ack := <-s.ack.Ok():
			s.receipt = s.receipt.stored(ack)
		case err := <-s.ack.Err():
			s.err = storing(s.receipt.ID, err)
		case <-ctx.Done():
			return Receipt{}, storing(s.receipt.ID, ctx.Err())
		}
		s.known = true
	}
	if s.err != nil {
		return Receipt{}, s.err
	}
	return s.receipt, nil
}

// SubmitBatch submits many operations at once and returns when each is stored or has failed. The
// receipts are in the order of the submissions; a failed one has the zero receipt. The error
// joins a [*BatchError] for each failure.
func (c *Client) SubmitBatch(ctx context.Context, batch []Submission) ([]Receipt, error) {
	receipts := make([]Receipt, len(batch))
	sent := make([]*PendingSubmission, len(batch))
	var errs []error
	add := func(i int, err error) {
		if err != nil {
			errs = append(errs, &BatchError{Index: i, Err: err})
		}
	}
	for i := range batch {
		var err error
		sent[i], err = c.SubmitAsync(ctx, batch[i])
		add(i, err)
	}
	for i, s := range sent {
		if s == nil {
			continue
		}
		var err error
		receipts[i], err = s.Wait(ctx)
		add(i, err)
	}
	return receipts, errors.Join(errs...)
}

// BatchError is the failure of one submission of a batch.
type BatchError struct {
	// Index is the submission's index in the batch.
	Index int
	Err   error
}

// Error implements error.
func (e *BatchError) Error() string { return fmt.Sprintf("submission %d: %v", e.Index, e.Err) }

// Unwrap returns Err.
func (e *BatchError) Unwrap() error { return e.Err }
