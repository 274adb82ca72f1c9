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
	// Sequence is its place in the stream of outcomes.
	Sequence uint64
	// StoredAt is when it was stored.
	StoredAt time.Time
}

// Name returns [events.RetrySuccess] or [events.RetryFailed].
func (o Outcome) Name() string { return o.Outcome.Outcome }

// Succeeded reports whether the operation ended in [events.RetrySuccess].
func (o Outcome) Succeeded() bool { return o.Name() == events.RetrySuccess }

// OutcomeFilter selects outcomes. The zero value selects all that are stored from now on.
type OutcomeFilter struct {
	// Service, Operation and Name select by service, by operation type, and by
	// [events.RetrySuccess] or [events.RetryFailed]; empty selects any.
	Service, Operation, Name string
	// Since begins with those that were stored then or later; zero begins with
	// those that are stored from now on.
	Since time.Time
	// After begins behind that [Outcome.Sequence], whatever Since says; 0 begins where
	// Since says. A program that stores the sequence in the same write as its own results
	// counts each outcome exactly once.
	After uint64
	// Durable names a position that the server keeps: an iteration with the same name, in
	// whatever process, goes on where the last one ended, and several at once share the
	// outcomes. It is a consumer of that name in the stream of outcomes, which stays until
	// somebody deletes it. Since and After count only when it is made. Empty keeps none.
	Durable string
}

const (
	// outcomeAckWait is how long a durable iteration may take for one outcome before it is
	// given out again.
	outcomeAckWait = time.Minute
	// outcomesAhead is how many outcomes an iteration requests ahead of the loop's body.
	outcomesAhead = 32
	// quiet bounds the wait for one outcome, after which ctx is looked at.
	quiet = 5 * time.Second
)

// Outcomes iterates over outcomes until ctx ends, which is no error. An error ends
// the iteration; it is [ErrNoStream] when no service has ever run.
//
// With [OutcomeFilter.Durable] an outcome is done with once the loop's body has ended for
// it, by break too. It comes again when the body panics, when the process dies, or after a
// minute in the body. Outcomes come in the order in which they were stored, except those
// that come again.
func (c *Client) Outcomes(ctx context.Context, f OutcomeFilter) iter.Seq2[Outcome, error] {
	return func(yield func(Outcome, error) bool) {
		if err := c.eachOutcome(ctx, f, yield); err != nil && ctx.Err() == nil {
			yield(Outcome{}, fmt.Errorf("client: following the outcomes: %w", orNoStream(err)))
		}
	}
}

// eachOutcome calls yield for every outcome until it returns false. It returns nil then,
// and otherwise why it ended.
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

// outcomeReader reads outcomes, for one iteration.
type outcomeReader struct {
	messages jetstream.MessagesContext
	durable  bool
	// inHand is the message that the loop's body works on.
	inHand jetstream.Msg
}

// next calls yield for the next outcome, if one comes within a while. It reports whether
// to go on.
func (r *outcomeReader) next(ctx context.Context, yield func(Outcome, error) bool) (more bool, err error) {
	m, err := r.receive(ctx)
	if err != nil || m == nil {
		return err == nil, err
	}
	r.inHand = m
	select {
	case <-ctx.Done(): // the message came just before
		return false, nil
	default:
	}
	outcome, err := readOutcome(m)
	more = yield(outcome, err) && err == nil
	r.inHand = nil
	if !r.durable {
		return more, nil
	}
	if err := m.Ack(); err != nil && more {
		return false, err
	}
	return more, nil
}

// receive returns the next message, nil when none comes for a while.
func (r *outcomeReader) receive(ctx context.Context) (jetstream.Msg, error) {
	next, cancel := context.WithTimeout(ctx, quiet)
	defer cancel()
	m, err := r.messages.Next(jetstream.NextContext(next))
	if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return nil, nil
	}
	return m, err
}

// end ends the pull. What a durable consumer gave out and is not done with goes back at
// once; where that fails, the server takes it back by itself.
func (r *outcomeReader) end() {
	if !r.durable {
		r.messages.Stop()
		return
	}
	r.messages.Drain()
	for m, err := r.inHand, error(nil); err == nil; m, err = r.messages.Next() {
		if m != nil && m.Nak() != nil {
			return
		}
	}
}

// outcomeConsumer makes the consumer that finds what f selects, or finds the one
// that was made before.
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

// start says with which outcome an iteration begins.
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
	var issues []error
	for what, name := range map[string]string{"service": f.Service, "operation": f.Operation, "durable": f.Durable} {
		if name == "" || name == events.Invalid && what != "durable" {
			continue
		}
		if err := events.CheckName(name); err != nil {
			issues = append(issues, fmt.Errorf("%s %w", what, err))
		}
	}
	switch f.Name {
	case "", events.RetrySuccess, events.RetryFailed:
	default:
		issues = append(issues, fmt.Errorf("%q is no outcome; the outcomes are %s and %s", oneLine(f.Name), events.RetrySuccess, events.RetryFailed))
	}
	return errors.Join(issues...)
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
