package handlers

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/internal/adoption"
	"github.com/rebound-mq/rebound/internal/pull"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

const (
	// adoptedInFlight is how many messages are taken over at once. Each may be as
	// large as the server allows.
	adoptedInFlight = 64
	// candidateAge is how old may be what is known of an adopted consumer.
	candidateAge = time.Second
)

// adopted takes over the messages that adopted consumers gave up.
//
// The server tells of such a message once or, around a crash of its own, more
// than once. The message belongs to the first advisory that claims it in the
// ledger; that advisory comes again until the operation is stored, and every other
// one is dropped.
type adopted struct {
	adoptions  *adoptions
	candidates candidates
	intake     *intake
	pipeline   *scheduler.Pipeline
}

// handle takes over the message that one advisory tells of.
func (a *adopted) handle(ctx context.Context, t *pull.Message) error {
	given, err := adoption.ParseAdvisory(t.Data())
	if err != nil {
		return a.bury(ctx, t, err)
	}
	ad, err := a.adoptions.find(ctx, given.Stream, given.Consumer)
	if errors.Is(err, adoption.ErrNotAdopted) {
		a.adoptions.log.Info("a message stays where it is, because its consumer is no longer adopted",
			"stream", given.Stream, "consumer", given.Consumer, "sequence", given.Sequence)
		return nil
	}
	if err != nil {
		return err
	}
	source, err := a.candidates.of(ctx, ad)
	if err != nil {
		return err
	}
	op := operationOf(ad, given, source, t.Stored())

	ledger, err := a.adoptions.ledgerNow(ctx)
	if err != nil {
		return err
	}
	mine, first, err := ledger.Claim(ctx, adoption.Message(op.Source, op.EventID), nameOf(t))
	if err != nil || !mine {
		return err
	}
	shared := func() bool { return !first || t.Shared() }
	m := scheduler.Message{Name: nameOf(t), Stored: t.Stored(), Shared: shared}
	return a.take(ctx, op, m, given, source)
}

// claimed reports whether somebody takes the message over that an advisory tells
// of, or nobody shall.
func (a *adopted) claimed(ctx context.Context, given adoption.Advisory) (bool, error) {
	ad, err := a.adoptions.find(ctx, given.Stream, given.Consumer)
	if errors.Is(err, adoption.ErrNotAdopted) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	source, err := a.candidates.of(ctx, ad)
	if err != nil {
		return false, err
	}
	ledger, err := a.adoptions.ledgerNow(ctx)
	if err != nil {
		return false, err
	}
	op := operationOf(ad, given, source, given.Time)
	return ledger.Claimed(ctx, adoption.Message(op.Source, op.EventID))
}

// operationOf returns the operation that a message becomes which was given up.
func operationOf(ad adoption.Adoption, given adoption.Advisory, source adoption.Candidate, received time.Time) *events.Operation {
	// Stream and consumer may have been made anew since the advisory.
	streamCreated, consumerCreated := ad.StreamCreated, ad.ConsumerCreated
	if made := source.Stream; made != nil && before(made.Created, given.Time) {
		streamCreated = made.Created
	}
	if made := source.Consumer; made != nil && before(made.Created, given.Time) {
		consumerCreated = made.Created
	}
	op := &events.Operation{
		EventID: adoption.EventID(streamCreated, consumerCreated, given.Sequence), Source: ad.Source(), Type: events.TypeFailed,
		Service: ad.Service, Operation: ad.Operation, Target: ad.Target, Delivery: events.Request,
		Attempt: given.Deliveries, FirstFailure: given.Time, Submitted: received.UTC(),
		Origin: &events.Origin{Stream: given.Stream, Consumer: given.Consumer, Sequence: given.Sequence},
	}
	op.ID = events.OperationID(op.Source, op.EventID, op.Service, op.Operation)
	op.Record(events.Attempt{Number: op.Attempt, At: given.Time, Code: given.Code, Error: given.Says()})
	return op
}

// before compares moments that two servers took.
func before(a, b time.Time) bool { return !a.After(b.Add(streams.ClockSlack)) }

// take reads the message and hands it to the pipeline. One that is gone becomes a
// dead letter that says so.
func (a *adopted) take(ctx context.Context, op *events.Operation, m scheduler.Message, given adoption.Advisory, source adoption.Candidate) error {
	stored, err := a.read(ctx, given, source)
	if err != nil {
		return err
	}
	if stored == nil {
		return a.intake.refuse(ctx, op, m, fmt.Errorf("message %d is no longer in stream %s; %s", given.Sequence, given.Stream, given.Says()))
	}
	op.Origin.Subject = stored.Subject
	if parent := wire.HeaderValue(stored.Header, events.HeaderTraceParent); len(parent) <= events.MaxName {
		op.TraceParent = parent
	}
	m.Header, m.Data = stored.Header, stored.Data
	if err = a.admit(op, stored, source); err == nil {
		err = a.intake.accept(ctx, op, m)
	}
	var rejected *events.RejectedError
	if errors.As(err, &rejected) {
		return a.intake.refuse(ctx, op, m, rejected.Problem)
	}
	return err
}

// read returns the message from the leader of its stream, nil when it is gone.
func (a *adopted) read(ctx context.Context, given adoption.Advisory, source adoption.Candidate) (*jetstream.RawStreamMsg, error) {
	if source.Stream == nil || !before(source.Stream.Created, given.Time) {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, streams.CallTimeout)
	defer cancel()
	m, gone, err := streams.GetAt(ctx, a.adoptions.js, given.Stream, given.Sequence)
	switch {
	case gone, streams.HasCode(err, jetstream.JSErrCodeStreamNotFound):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading message %d of stream %s: %w", given.Sequence, given.Stream, err)
	case !before(m.Time, given.Time):
		// The stream was made anew and has come to this sequence again.
		return nil, nil
	}
	return m, nil
}

// admit rejects what an adopted message must be rejected for and a submission
// cannot.
func (a *adopted) admit(op *events.Operation, m *jetstream.RawStreamMsg, source adoption.Candidate) error {
	reject := func(layout string, args ...any) error {
		return &events.RejectedError{Service: op.Service, Operation: op.Operation, Problem: fmt.Errorf(layout, args...)}
	}
	inForce := a.pipeline.Policies().Resolve(policy.Query{Service: op.Service, Operation: op.Operation})
	if target := inForce.TargetOf(op.Target, op.Service, op.Operation); policy.Matches(source.Stream.Config.Subjects, target) {
		// It would come back as a new message, without end.
		return reject("target %q is a subject of stream %s itself, which would hand the message to consumer %s again", target, op.Origin.Stream, op.Origin.Consumer)
	}
	if size := streams.HeaderSize(m.Header); size > events.MaxHeaders {
		return reject("the headers have %d bytes together, more than the %d allowed", size, events.MaxHeaders)
	}
	return a.intake.fits(op, m.Header, m.Data)
}

// bury ends a message of the stream of advisories that is none.
func (a *adopted) bury(ctx context.Context, t *pull.Message, problem error) error {
	name := "advisory-" + nameOf(t)
	op := &events.Operation{
		ID:      events.OperationID("rejected", name, events.Invalid, events.Invalid),
		EventID: name, Source: "/rejected", Service: events.Invalid, Operation: events.Invalid,
		FirstFailure: t.Stored().UTC(), Submitted: t.Stored().UTC(),
	}
	return a.intake.refuse(ctx, op, scheduler.Message{Header: t.Headers(), Data: t.Data()}, problem)
}

// candidates knows the adopted consumers as the server describes them, for a
// moment, so that a burst of messages asks once.
type candidates struct {
	js jetstream.JetStream
	mu sync.Mutex
	by map[string]*known // by source
}

// known is one of them.
type known struct {
	mu    sync.Mutex
	at    time.Time
	found adoption.Candidate
}

// of returns what is known of an adopted consumer. Stream or consumer are nil when
// they do not exist any more.
func (c *candidates) of(ctx context.Context, ad adoption.Adoption) (adoption.Candidate, error) {
	c.mu.Lock()
	if c.by == nil {
		c.by = make(map[string]*known)
	}
	k := c.by[ad.Source()]
	if k == nil {
		k = &known{}
		c.by[ad.Source()] = k
	}
	c.mu.Unlock()

	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Since(k.at) < candidateAge {
		return k.found, nil
	}
	ctx, cancel := context.WithTimeout(ctx, streams.CallTimeout)
	defer cancel()
	found, err := adoption.Find(ctx, c.js, ad.Stream, ad.Consumer)
	if err != nil && !errors.Is(err, adoption.ErrNoStream) && !errors.Is(err, adoption.ErrNoConsumer) {
		return adoption.Candidate{}, err
	}
	k.found, k.at = found, time.Now()
	return found, nil
}
