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

// OutcomeFilter selects outcomes. The zero value selects all that come from now
// on.
type OutcomeFilter struct {
	// Service, Operation and Name select by service, by operation type, and by
	// [events.RetrySuccess] or [events.RetryFailed]; empty selects any.
	Service, Operation, Name string
	// Since begins with those that were stored then or later; zero begins with
	// what comes.
	Since time.Time
	// After begins with the one behind that [Outcome.Sequence], whatever Since says.
	// Who keeps the sequence in the same write as what is made of the outcomes takes
	// each into account exactly once. 0 begins where Since says.
	After uint64
	// Durable names a position that the server keeps, so that an iteration with
	// the same name, in whatever process, goes on where the last one ended; several
	// at once share the outcomes. It is a consumer of that name in the stream of
	// outcomes, which stays until somebody deletes it. Since and After count only
	// when it is made. Empty keeps none.
	Durable string
}

const (
	// outcomeAckWait is after what time an outcome is given out again that a
	// durable iteration took and did not finish.
	outcomeAckWait = time.Minute
	// outcomesAhead is how many outcomes a durable iteration has in hand.
	outcomesAhead = 32
	// quiet is how long nothing may come before ctx is looked at.
	quiet = 5 * time.Second
)

// Outcomes iterates over outcomes until ctx ends, which is no error. An error ends
// the iteration; it is [ErrNoStream] when no service has ever run.
//
// With [OutcomeFilter.Durable] an outcome is done with once the loop's body has
// ended for it, be it by break; one whose body panics, whose process dies, or that
// takes more than a minute comes again. Outcomes come in the order in which they
// were stored, but for those that were given back.
func (c *Client) Outcomes(ctx context.Context, f OutcomeFilter) iter.Seq2[Outcome, error] {
	return func(yield func(Outcome, error) bool) {
		fail := func(err error) {
			if ctx.Err() == nil {
				yield(Outcome{}, fmt.Errorf("client: following the outcomes: %w", orNoStream(err)))
			}
		}
		if err := c.connected(); err != nil {
			fail(err)
			return
		}
		consumer, err := c.outcomeConsumer(ctx, f)
		if err != nil {
			fail(err)
			return
		}
		messages, err := consumer.Messages(jetstream.PullMaxMessages(outcomesAhead))
		if err != nil {
			fail(err)
			return
		}
		var held jetstream.Msg // what the body has in hand
		defer func() { giveBack(messages, held, f.Durable != "") }()
		for {
			m, err := nextMessage(ctx, messages)
			switch {
			case err != nil:
				fail(err)
				return
			case m == nil:
				continue
			}
			held = m
			if ctx.Err() != nil {
				return // the message was in hand already
			}
			outcome, err := readOutcome(m)
			more := yield(outcome, err) && err == nil
			held = nil
			if f.Durable != "" {
				if err := m.Ack(); err != nil && more {
					fail(err)
					return
				}
			}
			if !more {
				return
			}
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
	var faults []error
	for what, name := range map[string]string{"service": f.Service, "operation": f.Operation, "durable": f.Durable} {
		if name == "" || name == events.Invalid && what != "durable" {
			continue
		}
		if err := events.CheckName(name); err != nil {
			faults = append(faults, fmt.Errorf("%s %w", what, err))
		}
	}
	switch f.Name {
	case "", events.RetrySuccess, events.RetryFailed:
	default:
		faults = append(faults, fmt.Errorf("%q is no outcome; the outcomes are %s and %s", oneLine(f.Name), events.RetrySuccess, events.RetryFailed))
	}
	return errors.Join(faults...)
}

// nextMessage returns the next message, nil when none comes for a while.
func nextMessage(ctx context.Context, messages jetstream.MessagesContext) (jetstream.Msg, error) {
	next, cancel := context.WithTimeout(ctx, quiet)
	defer cancel()
	m, err := messages.Next(jetstream.NextContext(next))
	if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return nil, nil
	}
	return m, err
}

// giveBack ends a pull. What a durable consumer has given out and is not done
// with goes back at once; where that fails, the server takes it back by itself.
func giveBack(messages jetstream.MessagesContext, held jetstream.Msg, durable bool) {
	if !durable {
		messages.Stop()
		return
	}
	messages.Drain()
	for m, err := held, error(nil); err == nil; m, err = messages.Next() {
		if m != nil && m.Nak() != nil {
			return
		}
	}
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
