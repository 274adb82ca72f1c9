package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Submit hands an operation that failed to the service and returns once it is
// stored, whether or not a service is running. The same submission may be made
// again after an error: its source and id make it one.
//
// The error is an [*events.RejectedError] when the service would not accept the
// submission, [ErrNoStream] when there is nobody to store it, and otherwise that
// of JetStream or of ctx.
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

// store publishes a submission that is stamped.
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

// storing says what went wrong with a submission.
func storing(id string, err error) error {
	return fmt.Errorf("client: storing operation %s: %w", id, orNoStream(err))
}

// orNoStream adds [ErrNoStream] to an error that means it.
func orNoStream(err error) error {
	for _, e := range []error{jetstream.ErrNoStreamResponse, jetstream.ErrStreamNotFound, nats.ErrNoResponders} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: %w", ErrNoStream, err)
		}
	}
	return err
}

// PendingSubmission is a submission that is on its way to its stream. It is safe for
// concurrent use.
type PendingSubmission struct {
	receipt Receipt
	ack     jetstream.PubAckFuture

	turn  chan struct{} // full while somebody waits, for ack answers once; guards what follows
	known bool
	err   error
}

// SubmitAsync sends a submission and does not wait until it is stored; only
// [PendingSubmission.Wait] says whether it is. It waits while more than 4000 submissions
// of the client are on their way, at most until ctx ends. The error is as that of
// [Client.Submit].
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

// Wait waits until the submission is stored. It fails when no acknowledgement comes within
// 10 seconds. The error is as that of [Client.Submit]; after the error of ctx, Wait may be
// called again.
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

// SubmitBatch submits many operations at once and returns when all are stored or
// have failed. The receipts are in the order of the submissions; one that failed
// has a zero receipt. The error joins a [*BatchError] for each of them.
func (c *Client) SubmitBatch(ctx context.Context, batch []Submission) ([]Receipt, error) {
	receipts := make([]Receipt, len(batch))
	sent := make([]*PendingSubmission, len(batch))
	var issues []error
	issue := func(i int, err error) {
		if err != nil {
			issues = append(issues, &BatchError{Index: i, Err: err})
		}
	}
	for i := range batch {
		var err error
		sent[i], err = c.SubmitAsync(ctx, batch[i])
		issue(i, err)
	}
	for i, s := range sent {
		if s == nil {
			continue
		}
		var err error
		receipts[i], err = s.Wait(ctx)
		issue(i, err)
	}
	return receipts, errors.Join(issues...)
}

// BatchError says which submission of a batch failed, and why.
type BatchError struct {
	// Index is the submission's place in the batch, from 0.
	Index int
	Err   error
}

// Error implements error.
func (e *BatchError) Error() string { return fmt.Sprintf("submission %d: %v", e.Index, e.Err) }

// Unwrap returns Err.
func (e *BatchError) Unwrap() error { return e.Err }
