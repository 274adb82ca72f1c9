package pull

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/streams"
)

const (
	// fetchWait is how long a pull waits for messages. A stop waits for the end of the last.
	fetchWait = time.Second
	// silence is how long after that the server may take to say that the pull has ended.
	silence = time.Second
)

// durable is a durable consumer of a stream.
type durable struct {
	js     jetstream.JetStream
	stream string
	config jetstream.ConsumerConfig
	pulls  pulls
}

// Durable returns the durable consumer of a stream as a [Source].
func Durable(js jetstream.JetStream, stream string, config jetstream.ConsumerConfig) Source {
	return &durable{js: js, stream: stream, config: config, pulls: newPulls(js.Conn(), config.AckWait)}
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
	return &streamConsumer{c, s.pulls, streams.APIPrefix(s.js) + "CONSUMER.MSG.NEXT." + s.stream + "." + s.config.Durable}, nil
}

// Close gives up what pulls may still bring.
func (s *durable) Close() { s.pulls.endBefore(time.Now()) }

// streamConsumer is a consumer of a stream.
type streamConsumer struct {
	jetstream.Consumer
	pulls
	next string // subject of pulls
}

func (c *streamConsumer) Made() time.Time { return c.CachedInfo().Created }

func (c *streamConsumer) Led() time.Time {
	if cluster := c.CachedInfo().Cluster; cluster != nil && cluster.LeaderSince != nil {
		return *cluster.LeaderSince
	}
	return time.Time{}
}

func (c *streamConsumer) Look(ctx context.Context) error {
	_, err := c.Info(ctx)
	return err
}

// Receive pulls up to n messages, at most [MaxBatch], within [fetchWait]. The server says when
// the pull has ended, after all that it has sent to it, and Receive waits for that even if ctx
// ends first. Were its subscription ended instead, the server would count what it is just sending
// as delivered, and a cluster would redeliver it only when the lease is over. For the same reason
// a pull that the server does not end in time goes on: what it brings after all, a later Receive
// hands out.
//
// The client library offers no such end: it either asks anew when a pull has ended, or takes a
// message for the end if that has no payload and a header like a status of the server.
func (c *streamConsumer) Receive(_ context.Context, n int, take func(Delivery, time.Time)) error {
	c.endBefore(time.Now().Add(-c.lease)) // by now the server redelivers what they bring
	wait := min(fetchWait, c.lease/4)
	sub, err := c.begin(c.next, fmt.Appendf(nil, `{"expires":%d,"batch":%d}`, wait.Nanoseconds(), n))
	if err != nil {
		return err
	}
	silent := time.NewTimer(wait + silence)
	defer silent.Stop()
	for n > 0 {
		reply := await(c.replies, silent.C)
		if reply == nil {
			return errSilent
		}
		if reply.Subject == reply.Sub.Subject { // not a message but a status
			c.end(reply.Sub)
			if reply.Sub == sub {
				return endOf(reply)
			}
			continue
		}
		take(delivered{reply}, c.asked[reply.Sub])
		if reply.Sub == sub {
			n--
		}
	}
	c.end(sub)
	return nil
}

// pulls are those pulls of a consumer that have not ended. They belong to the goroutine that pulls.
type pulls struct {
	conn    *nats.Conn
	lease   time.Duration
	replies chan *nats.Msg // of all of them
	// asked is when each was requested. When a message was sent is not known, only that this was
	// after the request.
	asked map[*nats.Subscription]time.Time
}

// newPulls has room for what one pull brings while others bring theirs too late. A pull after one
// that brought nothing asks for little.
func newPulls(conn *nats.Conn, lease time.Duration) pulls {
	return pulls{conn, lease, make(chan *nats.Msg, 4*MaxBatch), make(map[*nats.Subscription]time.Time)}
}

// begin requests messages and returns the subscription to them.
func (p pulls) begin(next string, request []byte) (*nats.Subscription, error) {
	sub, err := p.conn.ChanSubscribe(p.conn.NewInbox(), p.replies)
	if err != nil {
		return nil, fmt.Errorf("subscribing to the messages of a pull: %w", err)
	}
	p.asked[sub] = time.Now()
	if err := p.conn.PublishRequest(next, sub.Subject, request); err != nil {
		p.end(sub)
		return nil, fmt.Errorf("requesting messages: %w", err)
	}
	return sub, nil
}

// end ends a pull. What it has brought already is still handed out, as what was asked for long ago.
func (p pulls) end(sub *nats.Subscription) {
	delete(p.asked, sub)
	_ = sub.Unsubscribe() // it fails if the connection is closed, which ends it too
}

// endBefore ends the pulls that were requested before a moment.
func (p pulls) endBefore(moment time.Time) {
	for sub, asked := range p.asked {
		if asked.Before(moment) {
			p.end(sub)
		}
	}
}

// errSilent says that the server has not said in time that a pull has ended.
var errSilent = errors.New("the server does not answer a pull")

// await returns the next reply, nil if there is none and silent has fired.
func await(replies <-chan *nats.Msg, silent <-chan time.Time) *nats.Msg {
	select {
	case reply := <-replies:
		return reply
	case <-silent:
	}
	// Both may be so if this instance was frozen.
	select {
	case reply := <-replies:
		return reply
	default:
		return nil
	}
}

// endOf returns why a pull has ended, by a status of the server: nil if its time is over.
func endOf(status *nats.Msg) error {
	code, description := status.Header.Get("Status"), status.Header.Get("Description")
	switch {
	case code == "408":
		return nil
	case code == "503":
		return nats.ErrNoResponders
	case strings.EqualFold(description, "Consumer Deleted"):
		return jetstream.ErrConsumerDeleted
	}
	return fmt.Errorf("the server ended a pull: %s %s", code, description)
}

// delivered is the [Delivery] of a pull.
type delivered struct{ raw *nats.Msg }

func (m delivered) Subject() string      { return m.raw.Subject }
func (m delivered) Headers() nats.Header { return m.raw.Header }
func (m delivered) Data() []byte         { return m.raw.Data }
func (m delivered) Ack() error           { return m.raw.Ack() }
func (m delivered) InProgress() error    { return m.raw.InProgress() }
func (m delivered) Nak() error           { return m.raw.Nak() }

func (m delivered) NakWithDelay(d time.Duration) error { return m.raw.NakWithDelay(d) }

func (m delivered) Metadata() (*jetstream.MsgMetadata, error) {
	meta, err := m.raw.Metadata()
	if err != nil {
		return nil, err
	}
	return &jetstream.MsgMetadata{
		Sequence: jetstream.SequencePair(meta.Sequence), NumDelivered: meta.NumDelivered, NumPending: meta.NumPending,
		Timestamp: meta.Timestamp, Stream: meta.Stream, Consumer: meta.Consumer, Domain: meta.Domain,
	}, nil
}
