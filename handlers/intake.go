package handlers

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/internal/deadletter"
	"github.com/rebound-mq/rebound/internal/pull"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/internal/telemetry"
	"github.com/rebound-mq/rebound/scheduler"
)

// stateRoom is what an operation's state and the headers of JetStream may take
// of a message, on top of the submission.
const stateRoom = 48 << 10

// mostBehind is how often a replay comes again whose dead letter its stream has not
// come to, which takes 6 s, before the dead letter is taken for one that never was.
const mostBehind = 10

// intake takes submissions in.
type intake struct {
	subjects   events.Subjects
	pipeline   *scheduler.Pipeline
	letters    *deadletter.Letters
	metrics    *telemetry.Metrics
	maxPayload int64
	// pending is told how many submissions wait behind each.
	pending func(uint64)
}

// handle takes in one message of the intake stream.
func (in *intake) handle(ctx context.Context, t *pull.Message) error {
	in.pending(t.Pending())
	take := in.submit
	if wire.HeaderValue(t.Headers(), events.HeaderDeadSequence) != "" {
		take = in.replay
	}
	err := take(ctx, t)
	var rejected *events.RejectedError
	if errors.As(err, &rejected) {
		return in.reject(ctx, t, rejected)
	}
	return err
}

func (in *intake) submit(ctx context.Context, t *pull.Message) error {
	name := nameOf(t)
	op, err := in.decode(t.Subject(), t.Headers(), t.Data(), name, t)
	if err != nil {
		return err
	}
	return in.Accept(ctx, op, submission(t, name))
}

// submission is the message of a submission of that name.
func submission(t *pull.Message, name string) scheduler.Message {
	return scheduler.Message{
		Subject: t.Subject(), Header: t.Headers(), Data: t.Data(), Name: name, Stored: t.Stored(), Shared: t.Shared,
	}
}

// Accept hands a submission to the pipeline.
func (in *intake) Accept(ctx context.Context, op *events.Operation, m scheduler.Message) error {
	if err := in.pipeline.Accept(ctx, op, m); err != nil {
		return err
	}
	in.metrics.Accepted(ctx, op)
	return nil
}

// Refuse buries a submission that cannot be accepted.
func (in *intake) Refuse(ctx context.Context, op *events.Operation, m scheduler.Message, problem error) error {
	if err := in.pipeline.Reject(ctx, op, m, problem); err != nil {
		return err
	}
	in.metrics.Rejected(ctx, op.Service, op.Operation)
	return nil
}

func (in *intake) decode(subject string, h nats.Header, data []byte, name string, t *pull.Message) (*events.Operation, error) {
	op, err := wire.DecodeSubmission(in.subjects, wire.Submission{Subject: subject, Header: h, Data: data, Name: name, Received: t.Stored()})
	if err != nil {
		return nil, err
	}
	return op, in.Fits(op, h, data)
}

// Fits rejects a submission that leaves no room for the operation's state.
func (in *intake) Fits(op *events.Operation, h nats.Header, data []byte) error {
	size, limit := int64(len(data))+streams.HeaderSize(h), in.maxPayload-stateRoom
	if size <= limit {
		return nil
	}
	return &events.RejectedError{
		Service: op.Service, Operation: op.Operation,
		Problem: fmt.Errorf("the submission has %d bytes, more than the %d allowed: the server's maximum less %d for the operation's state",
			size, limit, stateRoom),
	}
}

// reject buries what cannot be accepted. Its id comes from the message's place
// in the stream, because its own cannot be trusted.
func (in *intake) reject(ctx context.Context, t *pull.Message, rejected *events.RejectedError) error {
	name := nameOf(t)
	op := &events.Operation{
		ID:      events.OperationID("rejected", name, rejected.Service, rejected.Operation),
		EventID: name, Source: "/rejected", Service: rejected.Service, Operation: rejected.Operation,
		FirstFailure: t.Stored().UTC(), Submitted: t.Stored().UTC(),
	}
	m := scheduler.Message{Subject: t.Subject(), Header: t.Headers(), Data: t.Data()}
	return in.Refuse(ctx, op, m, rejected.Problem)
}

// replay brings a dead letter back as a fresh operation with its history.
//
// The dead letter is removed before the first attempt, by whoever has the operation
// then, see [due.exhume]. So a repeat of the request, or a second one, finds the
// operation waiting or the dead letter gone.
func (in *intake) replay(ctx context.Context, t *pull.Message) error {
	sequence, err := strconv.ParseUint(wire.HeaderValue(t.Headers(), events.HeaderDeadSequence), 10, 64)
	if err != nil {
		return in.refused(t, "header %s is not a sequence", events.HeaderDeadSequence)
	}
	d, err := in.letters.At(ctx, sequence)
	never := errors.Is(err, streams.ErrBehind) && t.Deliveries() > mostBehind
	if never || errors.Is(err, deadletter.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	service, operation, err := in.subjects.SplitSubmit(t.Subject())
	if err != nil || service != d.Service || operation != d.Operation {
		return in.refused(t, "dead letter %d does not belong to the subject of the request", sequence)
	}
	if d.Truncated > 0 {
		return in.refused(t, "dead letter %d has only a part of its payload of %d bytes", sequence, d.Truncated)
	}

	op := d.State
	if op != nil && op.Origin != nil && op.Origin.Gone() {
		return in.refused(t, "dead letter %d has no payload: message %d was gone from stream %s before it could be read",
			sequence, op.Origin.Sequence, op.Origin.Stream)
	}
	if op == nil {
		name := "replay-of-" + d.ID
		op, err = in.decode(d.SubmittedTo, d.Header, d.Data, name, t)
		var rejected *events.RejectedError
		if errors.As(err, &rejected) {
			// It stays the dead letter that it is.
			return nil
		}
		if err != nil {
			return err
		}
	}
	op.Restart(t.Stored())
	op.Dead = d.Grave()
	m := submission(t, nameOf(t))
	m.Subject, m.Header, m.Data = d.SubmittedTo, d.Header, d.Data
	left, err := in.pipeline.Replay(ctx, op, m)
	if err != nil {
		return err
	}
	in.metrics.Accepted(ctx, op)
	if left {
		return nil
	}
	if err := in.letters.Discard(ctx, d); err != nil && !errors.Is(err, deadletter.ErrNotFound) {
		return err
	}
	return nil
}

// refused says that a request for a replay cannot be met.
func (in *intake) refused(t *pull.Message, layout string, args ...any) error {
	rejected := &events.RejectedError{Service: events.Invalid, Operation: events.Invalid, Problem: fmt.Errorf(layout, args...)}
	if service, operation, err := in.subjects.SplitSubmit(t.Subject()); err == nil {
		rejected.Service, rejected.Operation = service, operation
	}
	return rejected
}

// nameOf is [streams.MessageName] of a message in flight.
func nameOf(t *pull.Message) string { return streams.MessageName(t.Sequence(), t.Stored()) }
