package adoption

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/scheduler/policy"
)

var (
	// ErrNoStream says that there is no such stream.
	ErrNoStream = errors.New("there is no such stream")
	// ErrNoConsumer says that the stream has no such consumer.
	ErrNoConsumer = errors.New("the stream has no such consumer")
)

// Candidate is a consumer as the server describes it, with its stream.
type Candidate struct {
	Stream   *jetstream.StreamInfo
	Consumer *jetstream.ConsumerInfo
}

// Find reads a consumer and its stream from the server. It returns [ErrNoStream], or
// [ErrNoConsumer] with the stream.
func Find(ctx context.Context, js jetstream.JetStream, stream, consumer string) (Candidate, error) {
	s, err := js.Stream(ctx, stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return Candidate{}, fmt.Errorf("stream %s: %w", stream, ErrNoStream)
	}
	if err != nil {
		return Candidate{}, fmt.Errorf("reading stream %s: %w", stream, err)
	}
	found := Candidate{Stream: s.CachedInfo()}
	c, err := s.Consumer(ctx, consumer)
	switch {
	case errors.Is(err, jetstream.ErrNotPullConsumer):
		found.Consumer, err = pushConsumer(ctx, s, consumer)
	case err == nil:
		found.Consumer = c.CachedInfo()
	}
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound):
		return found, fmt.Errorf("consumer %s of stream %s: %w", consumer, stream, ErrNoConsumer)
	case err != nil:
		return found, fmt.Errorf("reading consumer %s of stream %s: %w", consumer, stream, err)
	}
	return found, nil
}

func pushConsumer(ctx context.Context, s jetstream.Stream, name string) (*jetstream.ConsumerInfo, error) {
	c, err := s.PushConsumer(ctx, name)
	if err != nil {
		return nil, err
	}
	return c.CachedInfo(), nil
}

// Route is where and how the messages of a consumer would be redelivered.
type Route struct {
	// Target is the subject, and MaxAttempts the policy's limit.
	Target      string
	MaxAttempts int
}

// Judge returns why a consumer cannot be adopted, all reasons joined, and otherwise
// warnings for its owner. ours are the names of Rebound's own streams.
func (c Candidate) Judge(r Route, ours []string) (warnings []string, refusal error) {
	var issues []error
	issue := func(layout string, args ...any) { issues = append(issues, fmt.Errorf(layout, args...)) }
	warn := func(layout string, args ...any) { warnings = append(warnings, fmt.Sprintf(layout, args...)) }
	stream, consumer := c.Stream.Config, c.Consumer.Config
	name := c.Consumer.Name

	if slices.Contains(ours, stream.Name) {
		issue("stream %s is Rebound's own", stream.Name)
	}
	if consumer.AckPolicy == jetstream.AckNonePolicy {
		issue("consumer %s acknowledges nothing, so the server gives none of its messages up; set its ack policy to explicit", name)
	}
	if policy.Matches(stream.Subjects, r.Target) {
		issue("target %q is a subject of stream %s itself, which would store the message again and hand it to consumer %s again; "+
			"name another target, which the worker answers", r.Target, stream.Name, name)
	}

	if consumer.Durable == "" {
		warn("consumer %s is ephemeral: what replaces it will have another name and is not adopted", name)
	}
	switch n := consumer.MaxDeliver; {
	case n <= 0:
		warn("consumer %s delivers without limit, so only what its worker terminates is taken over; set its max deliver", name)
	case n >= r.MaxAttempts:
		warn("consumer %s delivers %d times and the policy allows %d attempts altogether, so what it gives up becomes a dead letter at once; "+
			"raise maxAttempts of the policy", name, n, r.MaxAttempts)
	}
	if stream.Retention != jetstream.LimitsPolicy {
		warn("stream %s removes what a worker terminates (its retention is %s), so that becomes a dead letter without payload", stream.Name, stream.Retention)
	}
	return warnings, errors.Join(issues...)
}
