package pull

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// fetchWait is how long a pull waits for messages, and drainWait how long it waits for
	// those under way when it ends.
	fetchWait = 5 * time.Second
	drainWait = time.Second
	// statusRoom is how many heartbeats and other statuses of the server fit beside the messages
	// of a pull. Without it a message that comes while they are not read yet would be dropped,
	// and delivered again only when its lease is over.
	statusRoom = 16
	// heartbeatEvery is how often the server confirms a waiting pull. A pull is given up
	// after two missing heartbeats.
	heartbeatEvery = time.Second
)

// durable is a durable consumer of a stream.
type durable struct {
	js     jetstream.JetStream
	stream string
	config jetstream.ConsumerConfig
}

// Durable returns the durable consumer of a stream as a [Source].
func Durable(js jetstream.JetStream, stream string, config jetstream.ConsumerConfig) Source {
	return &durable{js, stream, config}
}

func (s *durable) Stream() string       { return s.stream }
func (s *durable) Name() string         { return s.config.Durable }
func (s *durable) Lease() time.Duration { return s.config.AckWait }

// Open makes or updates the consumer.
func (s *durable) Open(ctx context.Context) (Consumer, error) {
	c, err := s.js.CreateOrUpdateConsumer(ctx, s.stream, s.config)
	if err != nil {
		return nil, fmt.Errorf("making consumer %s of stream %s: %w", s.config.Durable, s.stream, err)
	}
	return streamConsumer{c}, nil
}

// streamConsumer is a consumer of a stream.
type streamConsumer struct{ jetstream.Consumer }

func (c streamConsumer) Made() time.Time { return c.CachedInfo().Created }

func (c streamConsumer) Led() time.Time {
	if cluster := c.CachedInfo().Cluster; cluster != nil && cluster.LeaderSince != nil {
		return *cluster.LeaderSince
	}
	return time.Time{}
}

func (c streamConsumer) Look(ctx context.Context) error {
	_, err := c.Info(ctx)
	return err
}

// Receive pulls up to n messages within [fetchWait] or until ctx ends. It still hands to
// take what the server has sent by then, which would otherwise be redelivered only when the
// lease is over.
func (c streamConsumer) Receive(ctx context.Context, n int, take func(jetstream.Msg, time.Time)) error {
	asked := time.Now()
	pull, err := c.Messages(jetstream.StopAfter(n), jetstream.PullMaxMessages(n+statusRoom), // it still asks for n
		jetstream.PullExpiry(2*fetchWait), jetstream.PullHeartbeat(heartbeatEvery))
	if err != nil {
		return err
	}
	defer pull.Stop()
	// When a message was sent is not known, only that this was after the request.
	waitCtx, cancel := context.WithTimeout(ctx, min(fetchWait, c.CachedInfo().Config.AckWait/4))
	defer cancel()
	wait := jetstream.NextContext(waitCtx)
	for n > 0 {
		msg, err := pull.Next(wait)
		switch {
		case err == nil:
			n--
			take(msg, asked)
		case errors.Is(err, jetstream.ErrMsgIteratorClosed):
			return nil
		case waitCtx.Err() != nil && errors.Is(err, waitCtx.Err()):
			pull.Drain()
			wait = jetstream.NextMaxWait(drainWait)
		default:
			return err
		}
	}
	return nil
}
