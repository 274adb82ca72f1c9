package adoption

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/internal/pull"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// candidateAge is how long the description of an adopted consumer is reused.
const candidateAge = time.Second

// Intake takes in messages that adopted consumers gave up, like submissions.
type Intake interface {
	// Fits rejects an operation whose message leaves too few bytes for its state. The
	// error is an [*events.RejectedError].
	Fits(op *events.Operation, h nats.Header, data []byte) error
	// Accept stores an operation. The error is an [*events.RejectedError] if it cannot be
	// accepted.
	Accept(ctx context.Context, op *events.Operation, m scheduler.Message) error
	// Refuse stores a dead letter in place of an operation that cannot be accepted.
	Refuse(ctx context.Context, op *events.Operation, m scheduler.Message, problem error) error
}

// Takeover takes over the messages that adopted consumers gave up.
//
// The server sends one advisory for such a message or, around a crash of its own, several.
// The message belongs to the first advisory that claims it in the ledger. That advisory is
// redelivered until the operation is stored; all others are dropped.
type Takeover struct {
	js         jetstream.JetStream
	register   *Register
	intake     Intake
	policies   func() *policy.Set
	candidates candidates
}

// NewTakeover returns a takeover for the consumers in register. policies returns the
// policies in force.
func NewTakeover(js jetstream.JetStream, register *Register, intake Intake, policies func() *policy.Set) *Takeover {
	return &Takeover{
		js: js, register: register, intake: intake, policies: policies,
		candidates: candidates{js: js, bySource: make(map[string]*cachedCandidate)},
	}
}

// Handle takes over the message of one advisory.
func (t *Takeover) Handle(ctx context.Context, m *pull.Message) error {
	name := streams.MessageName(m.Sequence(), m.Stored())
	given, err := ParseAdvisory(m.Data())
	if err != nil {
		return t.bury(ctx, m, name, err)
	}
	ad, err := t.register.find(ctx, given.Stream, given.Consumer)
	if errors.Is(err, ErrNotAdopted) {
		t.register.log.Info("a message stays where it is, because its consumer is no longer adopted",
			"stream", given.Stream, "consumer", given.Consumer, "sequence", given.Sequence)
		return nil
	}
	if err != nil {
		return err
	}
	source, err := t.candidates.of(ctx, ad)
	if err != nil {
		return err
	}
	op := operationOf(ad, given, source, m.Stored())

	ledger, err := t.register.ledger(ctx)
	if err != nil {
		return err
	}
	mine, first, err := ledger.Claim(ctx, Message(op.Source, op.EventID), name)
	if err != nil || !mine {
		return err
	}
	shared := func() bool { return !first || m.Shared() }
	return t.take(ctx, op, scheduler.Message{Name: name, Stored: m.Stored(), Shared: shared}, given, source)
}

// Claimed reports whether an advisory needs no handling any more, because its message is
// claimed or its consumer is no longer adopted.
func (t *Takeover) Claimed(ctx context.Context, given Advisory) (bool, error) {
	ad, err := t.register.find(ctx, given.Stream, given.Consumer)
	if errors.Is(err, ErrNotAdopted) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	source, err := t.candidates.of(ctx, ad)
	if err != nil {
		return false, err
	}
	ledger, err := t.register.ledger(ctx)
	if err != nil {
		return false, err
	}
	op := operationOf(ad, given, source, given.Time)
	return ledger.Claimed(ctx, Message(op.Source, op.EventID))
}

// operationOf returns the operation that a message given up becomes.
func operationOf(ad Adoption, given Advisory, source Candidate, received time.Time) *events.Operation {
	// A stream or consumer made anew since the adoption counts, unless that was after
	// the advisory.
	streamCreated, consumerCreated := ad.StreamCreated, ad.ConsumerCreated
	if made := source.Stream; made != nil && before(made.Created, given.Time) {
		streamCreated = made.Created
	}
	if made := source.Consumer; made != nil && before(made.Created, given.Time) {
		consumerCreated = made.Created
	}
	op := &events.Operation{
		EventID: EventID(streamCreated, consumerCreated, given.Sequence), Source: ad.Source(), Type: events.TypeFailed,
		Service: ad.Service, Operation: ad.Operation, Target: ad.Target, Delivery: events.Request,
		Attempt: given.Deliveries, FirstFailure: given.Time, Submitted: received.UTC(),
		Origin: &events.Origin{Stream: given.Stream, Consumer: given.Consumer, Sequence: given.Sequence},
	}
	op.ID = events.OperationID(op.Source, op.EventID, op.Service, op.Operation)
	op.Record(events.Attempt{Number: op.Attempt, At: given.Time, Code: given.Code, Error: given.Says()})
	return op
}

// before compares times by the clocks of two servers.
func before(a, b time.Time) bool { return !a.After(b.Add(streams.ClockSlack)) }

// take reads the message and hands it to the intake. A message that is gone becomes a dead
// letter that says so.
func (t *Takeover) take(ctx context.Context, op *events.Operation, m scheduler.Message, given Advisory, source Candidate) error {
	stored, err := t.read(ctx, given, source)
	if err != nil {
		return err
	}
	if stored == nil {
		return t.intake.Refuse(ctx, op, m, fmt.Errorf("message %d is no longer in stream %s; %s", given.Sequence, given.Stream, given.Says()))
	}
	op.Origin.Subject = stored.Subject
	if parent := wire.HeaderValue(stored.Header, events.HeaderTraceParent); len(parent) <= events.MaxName {
		op.TraceParent = parent
	}
	m.Header, m.Data = stored.Header, stored.Data
	if err = t.admit(op, stored, source); err == nil {
		err = t.intake.Accept(ctx, op, m)
	}
	var rejected *events.RejectedError
	if errors.As(err, &rejected) {
		return t.intake.Refuse(ctx, op, m, rejected.Problem)
	}
	return err
}

// read returns the message from the leader of its stream, nil when it is gone.
func (t *Takeover) read(ctx context.Context, given Advisory, source Candidate) (*jetstream.RawStreamMsg, error) {
	if source.Stream == nil || !before(source.Stream.Created, given.Time) {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, streams.CallTimeout)
	defer cancel()
	m, gone, err := streams.GetAt(ctx, t.js, given.Stream, given.Sequence)
	switch {
	case gone, streams.HasCode(err, jetstream.JSErrCodeStreamNotFound):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading message %d of stream %s: %w", given.Sequence, given.Stream, err)
	case !before(m.Time, given.Time):
		// The stream was made anew and has reached this sequence again.
		return nil, nil
	}
	return m, nil
}

// admit rejects an adopted message for reasons that do not apply to submissions.
func (t *Takeover) admit(op *events.Operation, m *jetstream.RawStreamMsg, source Candidate) error {
	reject := func(layout string, args ...any) error {
		return &events.RejectedError{Service: op.Service, Operation: op.Operation, Problem: fmt.Errorf(layout, args...)}
	}
	inForce := t.policies().Resolve(policy.Query{Service: op.Service, Operation: op.Operation})
	if target := inForce.TargetOf(op.Target, op.Service, op.Operation); policy.Matches(source.Stream.Config.Subjects, target) {
		// It would come back as a new message, without end.
		return reject("target %q is a subject of stream %s itself, which would hand the message to consumer %s again", target, op.Origin.Stream, op.Origin.Consumer)
	}
	if size := streams.HeaderSize(m.Header); size > events.MaxHeaders {
		return reject("the headers have %d bytes together, more than the %d allowed", size, events.MaxHeaders)
	}
	return t.intake.Fits(op, m.Header, m.Data)
}

// bury ends a message in the stream of advisories that is not an advisory.
func (t *Takeover) bury(ctx context.Context, m *pull.Message, name string, problem error) error {
	name = "advisory-" + name
	op := &events.Operation{
		ID:      events.OperationID("rejected", name, events.Invalid, events.Invalid),
		EventID: name, Source: "/rejected", Service: events.Invalid, Operation: events.Invalid,
		FirstFailure: m.Stored().UTC(), Submitted: m.Stored().UTC(),
	}
	return t.intake.Refuse(ctx, op, scheduler.Message{Header: m.Headers(), Data: m.Data()}, problem)
}

// candidates caches the server's descriptions of adopted consumers briefly, so that a burst
// of messages asks only once.
type candidates struct {
	js       jetstream.JetStream
	mu       sync.Mutex
	bySource map[string]*cachedCandidate // guarded by mu
}

// cachedCandidate is one cached description.
type cachedCandidate struct {
	mu    sync.Mutex // guards the fields below, and makes simultaneous callers ask once
	at    time.Time
	found Candidate
}

// of describes an adopted consumer. Stream or consumer are nil if they no longer exist.
func (c *candidates) of(ctx context.Context, ad Adoption) (Candidate, error) {
	c.mu.Lock()
	cached := c.bySource[ad.Source()]
	if cached == nil {
		cached = &cachedCandidate{}
		c.bySource[ad.Source()] = cached
	}
	c.mu.Unlock()

	cached.mu.Lock()
	defer cached.mu.Unlock()
	if time.Since(cached.at) < candidateAge {
		return cached.found, nil
	}
	ctx, cancel := context.WithTimeout(ctx, streams.CallTimeout)
	defer cancel()
	found, err := Find(ctx, c.js, ad.Stream, ad.Consumer)
	if err != nil && !errors.Is(err, ErrNoStream) && !errors.Is(err, ErrNoConsumer) {
		return Candidate{}, err
	}
	cached.found, cached.at = found, time.Now()
	return found, nil
}
