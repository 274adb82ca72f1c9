package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
)

// Outcome is how an operation ended, as it is stored.
type Outcome struct {
	events.Outcome
	// Sequence is the sequence number in the stream of outcomes.
	Sequence uint64
	// StoredAt is when the outcome was stored.
	StoredAt time.Time
}

// Name returns [events.RetrySuccess] or [events.RetryFailed].
func (o Outcome) Name() string { return o.Outcome.Outcome }

// Succeeded reports whether the operation ended in [events.RetrySuccess].
func (o Outcome) Succeeded() bool { return o.Name() == events.RetrySuccess }

// OutcomeFilter selects outcomes. The zero value selects all outcomes stored from now on.
type OutcomeFilter struct {
	// Service and Operation select by service and operation type, Name by [events.RetrySuccess]
	// or [events.RetryFailed]; empty selects any.
	Service, Operation, Name string
	// Since selects outcomes stored at that time or later; zero selects those stored from now on.
	Since time.Time
	// After selects outcomes with a greater [Outcome.Sequence], whatever Since says; 0 leaves the
	// start to Since. A program that stores the sequence together with its own results counts
	// each outcome exactly once.
	After uint64
	// Durable names a position that the server keeps: an iteration with the same name, in any
	// process, continues where the last one ended, and concurrent ones share the outcomes. It is
	// a durable consumer of that name on the stream of outcomes, which exists until it is
	// deleted. Since and After apply only when it is created. Empty keeps no position.
	Durable string
}

const (
	// outcomeAckWait is how long the loop's body may take for an outcome of a durable iteration
	// before the outcome is redelivered.
	outcomeAckWait = time.Minute
	// outcomesAhead is how many outcomes an iteration requests ahead of the loop's body.
	outcomesAhead = 32
	// quiet bounds one wait for an outcome, after which ctx is checked.
	quiet = 5 * time.Second
)

// Outcomes iterates over outcomes until ctx ends, which is not an error. An error ends the
// iteration; it is [ErrNoStream] if no service has ever run.
//
// With [OutcomeFilter.Durable], an outcome is acknowledged when the loop's body has ended for it,
// also by break. It is redelivered if the body panics, if the process dies, or after a minute in
// the body. Outcomes come in the order in which they were stored, except redelivered ones.
func (c *Client) Outcomes(ctx context.Context, f OutcomeFilter) iter.Seq2[Outcome, error] {
	return func(yield func(Outcome, error) bool) {
		if err := c.eachOutcome(ctx, f, yield); err != nil && ctx.Err() == nil {
			yield(Outcome{}, fmt.Errorf("client: following the outcomes: %w", orNoStream(err)))
		}
	}
}

// eachOutcome calls yield for every outcome. It returns nil once yield returns false, otherwise
// the error that ended the iteration.
func (c *Client) eachOutcome(ctx context.Context, f OutcomeFilter, yield func(Outcome, error) bool) error {
	if err := c.connected(); err != nil {
		return err
	}
	consumer, err := c.outcomeConsumer(ctx, f)
	if err != nil {
		return err
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(outcomesAhead))
	if err != nil {
		return err
	}
	r := &outcomeReader{messages: messages, durable: f.Durable != ""}
	defer r.end()
	for more := true; more; {
		if more, err = r.next(ctx, yield); err != nil {
			return err
		}
	}
	return nil
}

// outcomeReader reads the outcomes of one iteration.
type outcomeReader struct {
	messages jetstream.MessagesContext
	durable  bool
	// current is the message that the loop's body works on.
	current jetstream.Msg
}

// next calls yield for the next outcome, if one comes within quiet. It reports whether to
// continue.
func (r *outcomeReader) next(ctx context.Context, yield func(Outcome, error) bool) (more bool, err error) {
	m, err := r.receive(ctx)
	if err != nil || m == nil {
		return err == nil, err
	}
	r.current = m
	select {
	case <-ctx.Done(): // ctx ended after the message arrived
		return false, nil
	default:
	}
	outcome, err := readOutcome(m)
	more = yield(outcome, err) && err == nil
	r.current = nil
	if !r.durable {
		return more, nil
	}
	if err := m.Ack(); err != nil && more {
		return false, err
	}
	return more, nil
}

// receive returns the next message, nil if none comes within quiet.
func (r *outcomeReader) receive(ctx context.Context) (jetstream.Msg, error) {
	next, cancel := context.WithTimeout(ctx, quiet)
	defer cancel()
	m, err := r.messages.Next(jetstream.NextContext(next))
	if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return nil, nil
	}
	return m, err
}

// end ends the pull. It naks what a durable consumer delivered and the body has not finished; if
// that fails, the server redelivers it after its ack wait.
func (r *outcomeReader) end() {
	if !r.durable {
		r.messages.Stop()
		return
	}
	r.messages.Drain()
	for m, err := r.current, error(nil); err == nil; m, err = r.messages.Next() {
		if m != nil && m.Nak() != nil {
			return
		}
	}
}

// outcomeConsumer returns a consumer for what f selects, an existing one if f names it.
func (c *Client) outcomeConsumer(ctx context.Context, f OutcomeFilter) (interface {
	Messages(...jetstream.PullMessagesOpt) (jetstream.MessagesContext, error)
}, error,
) {
	if err := f.check(); err != nil {
		return nil, err
	}
	stream, filter := c.streams.Outcomes(), c.subjects.Outcomes(f.Name, f.Service, f.Operation)
	policy, since, first := f.start()
	if f.Durable == "" {
		return c.js.OrderedConsumer(ctx, stream, jetstream.OrderedConsumerConfig{
			FilterSubjects: []string{filter}, DeliverPolicy: policy, OptStartTime: since, OptStartSeq: first,
		})
	}
	consumer, err := c.js.Consumer(ctx, stream, f.Durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return c.js.CreateOrUpdateConsumer(ctx, stream, jetstream.ConsumerConfig{
			Durable: f.Durable, Description: "Rebound: a client's outcomes", FilterSubject: filter,
			DeliverPolicy: policy, OptStartTime: since, OptStartSeq: first,
			AckPolicy: jetstream.AckExplicitPolicy, AckWait: outcomeAckWait, MaxDeliver: -1,
		})
	}
	if err == nil && consumer.CachedInfo().Config.FilterSubject != filter {
		err = fmt.Errorf("%q was made for %s, not for %s", f.Durable, consumer.CachedInfo().Config.FilterSubject, filter)
	}
	return consumer, err
}

// start returns where an iteration begins.
func (f OutcomeFilter) start() (policy jetstream.DeliverPolicy, since *time.Time, first uint64) {
	switch {
	case f.After > 0:
		return jetstream.DeliverByStartSequencePolicy, nil, f.After + 1
	case !f.Since.IsZero():
		return jetstream.DeliverByStartTimePolicy, &f.Since, 0
	}
	return jetstream.DeliverNewPolicy, nil, 0
}

func (f OutcomeFilter) check() error {
	var errs []error
	for what, name := range map[string]string{"service": f.Service, "operation": f.Operation, "durable": f.Durable} {
		if name == "" || name == events.Invalid && what != "durable" {
			continue
		}
		if err := events.CheckName(name); err != nil {
			errs = append(errs, fmt.Errorf("%s %w", what, err))
		}
	}
	switch f.Name {
	case "", events.RetrySuccess, events.RetryFailed:
	default:
		errs = append(errs, fmt.Errorf("%q is no outcome; the outcomes are %s and %s", oneLine(f.Name), events.RetrySuccess, events.RetryFailed))
	}
	return errors.Join(errs...)
}

func readOutcome(m jetstream.Msg) (Outcome, error) {
	var o Outcome
	meta, err := m.Metadata()
	if err == nil {
		o.Sequence, o.StoredAt = meta.Sequence.Stream, meta.Timestamp
		err = json.Unmarshal(m.Data(), &o.Outcome)
	}
	if err != nil {
		return o, fmt.Errorf("client: reading outcome %d: %w", o.Sequence, err)
	}
	return o, nil
}
