package handlers

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nuid"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/internal/deadletter"
	"github.com/rebound-mq/rebound/internal/inbox"
	"github.com/rebound-mq/rebound/internal/intake"
	"github.com/rebound-mq/rebound/internal/pull"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/internal/telemetry"
	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/schemas"
)

// mostBehind is how often a replay is redelivered, over 6 s, while the stream of dead
// letters may be behind. After that the dead letter counts as one that never existed.
const mostBehind = 10

// submitHandler takes submissions in.
type submitHandler struct {
	subjects   events.Subjects
	pipeline   *scheduler.Pipeline
	letters    *deadletter.Letters
	metrics    *telemetry.Metrics
	maxPayload int64
	// pending is called with how many submissions wait behind each.
	pending func(uint64)
}

// handle takes in one message of the intake stream.
func (in *submitHandler) handle(ctx context.Context, t *pull.Message) error {
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

func (in *submitHandler) submit(ctx context.Context, t *pull.Message) error {
	name := nameOf(t)
	op, err := in.decode(t.Subject(), t.Headers(), t.Data(), name, t)
	if err != nil {
		return err
	}
	return in.Accept(ctx, op, submission(t, name))
}

// submission returns the message of a submission of that name.
func submission(t *pull.Message, name string) scheduler.Message {
	return scheduler.Message{
		Subject: t.Subject(), Header: t.Headers(), Data: t.Data(), Name: name, Stored: t.Stored(), Shared: t.Shared,
	}
}

// Accept hands a submission to the pipeline.
func (in *submitHandler) Accept(ctx context.Context, op *events.Operation, m scheduler.Message) error {
	if err := in.pipeline.Accept(ctx, op, m); err != nil {
		return err
	}
	in.metrics.Accepted(ctx, op)
	return nil
}

// Refuse buries a submission that cannot be accepted.
func (in *submitHandler) Refuse(ctx context.Context, op *events.Operation, m scheduler.Message, problem error) error {
	if err := in.pipeline.Reject(ctx, op, m, problem); err != nil {
		return err
	}
	in.metrics.Rejected(ctx, op.Service, op.Operation)
	return nil
}

func (in *submitHandler) decode(subject string, h nats.Header, data []byte, name string, t *pull.Message) (*events.Operation, error) {
	op, err := wire.DecodeSubmission(in.subjects, wire.Submission{Subject: subject, Header: h, Data: data, Name: name, Received: t.Stored()})
	if err != nil {
		return nil, err
	}
	return op, in.Fits(op, h, data)
}

// Fits rejects a submission that leaves too few bytes for the operation's state.
func (in *submitHandler) Fits(op *events.Operation, h nats.Header, data []byte) error {
	return intake.Fits(op, h, data, in.maxPayload)
}

// reject buries a message that cannot be accepted. Its id is derived from its place in
// the stream, because its own cannot be trusted.
func (in *submitHandler) reject(ctx context.Context, t *pull.Message, rejected *events.RejectedError) error {
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
// The dead letter is removed before the first attempt, by the holder of the operation;
// see [due.exhume]. So a repeated request finds the operation waiting or the dead
// letter gone.
func (in *submitHandler) replay(ctx context.Context, t *pull.Message) error {
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
	if err := in.checkReplay(t, d, sequence); err != nil {
		return err
	}
	op, err := in.revive(t, d)
	if err != nil || op == nil {
		return err
	}
	op.Restart(t.Stored())
	op.Dead = d.Ref()
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

// checkReplay rejects a request if the dead letter cannot be replayed.
func (in *submitHandler) checkReplay(t *pull.Message, d *events.DeadLetter, sequence uint64) error {
	service, operation, err := in.subjects.SplitSubmit(t.Subject())
	switch {
	case err != nil || service != d.Service || operation != d.Operation:
		return in.refused(t, "dead letter %d does not belong to the subject of the request", sequence)
	case d.Truncated > 0:
		return in.refused(t, "dead letter %d has only a part of its payload of %d bytes", sequence, d.Truncated)
	case d.State != nil && d.State.Origin != nil && d.State.Origin.Gone():
		return in.refused(t, "dead letter %d has no payload: message %d was gone from stream %s before it could be read",
			sequence, d.State.Origin.Sequence, d.State.Origin.Stream)
	}
	return nil
}

// revive returns the operation of a dead letter. It returns nil for a rejected
// submission that would be rejected again; its dead letter stays.
func (in *submitHandler) revive(t *pull.Message, d *events.DeadLetter) (*events.Operation, error) {
	if d.State != nil {
		return d.State, nil
	}
	op, err := in.decode(d.SubmittedTo, d.Header, d.Data, "replay-of-"+d.ID, t)
	if errors.As(err, new(*events.RejectedError)) {
		return nil, nil
	}
	return op, err
}

// refused returns the rejection of a request for a replay that is not possible.
func (in *submitHandler) refused(t *pull.Message, layout string, args ...any) error {
	rejected := &events.RejectedError{Service: events.Invalid, Operation: events.Invalid, Problem: fmt.Errorf(layout, args...)}
	if service, operation, err := in.subjects.SplitSubmit(t.Subject()); err == nil {
		rejected.Service, rejected.Operation = service, operation
	}
	return rejected
}

// nameOf returns the permanent name of a message in flight; see [streams.MessageName].
func nameOf(t *pull.Message) string { return streams.MessageName(t.Sequence(), t.Stored()) }

// submitRequests answers submissions made as requests.
type submitRequests struct {
	*base
	intake *submitHandler
	limit  *intake.Limit
}

// answer checks and stores a submission and answers with its id. (JetStream itself
// answers a message published on the submit subject. It knows where it is stored but
// not what it is.)
func (q submitRequests) answer(ctx context.Context, r micro.Request) (any, error) {
	subject := q.config.Prefix + ".submit." + strings.TrimPrefix(r.Subject(), q.subjects.Endpoint("submit."))
	h := nats.Header(r.Headers())
	now := q.clock.Now()
	submission := wire.Submission{Subject: subject, Header: h, Data: r.Data(), Name: nuid.Next(), Received: now}
	op, err := wire.DecodeSubmission(q.subjects, submission)
	if err == nil {
		err = q.intake.Fits(op, h, r.Data())
	}
	if err == nil {
		err = q.intake.pipeline.Check(op)
	}
	var rejected *events.RejectedError
	if errors.As(err, &rejected) {
		q.metrics.Rejected(ctx, rejected.Service, rejected.Operation)
	}
	if err == nil {
		err = q.limit.Admit(ctx, op.Service)
	}
	if errors.As(err, new(*intake.TooManyError)) {
		q.metrics.Refused(ctx, op)
	}
	if err != nil {
		return nil, err
	}
	m := &nats.Msg{Subject: subject, Header: wire.CarriedHeader(h), Data: r.Data()}
	wire.HideStatus(m)
	wire.AddAttributes(op, m.Header)
	m.Header[jetstream.MsgIDHeader] = []string{op.MessageID("submit")}
	ack, err := inbox.Publisher{Inbox: q.inbox}.PublishMsg(ctx, m)
	if err != nil {
		if err = q.limit.StoreError(op.Service, op.Operation, err); errors.As(err, new(*intake.TooManyError)) {
			q.metrics.Refused(ctx, op)
		}
		return nil, err
	}
	return schemas.Submitted{ID: op.ID, EventID: op.EventID, Source: op.Source, Stream: ack.Stream, Sequence: ack.Sequence, Duplicate: ack.Duplicate}, nil
}
