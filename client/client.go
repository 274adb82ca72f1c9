package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/internal/deadletter"
	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// Config configures a [Client]. The zero value configures a client without NATS.
type Config struct {
	// Conn is the connection to NATS. Without it [Execute] works in this process alone, and
	// whatever needs NATS returns [ErrNotConnected]. The caller closes it, after [Client.Close].
	Conn *nats.Conn
	// JetStream is a JetStream context on Conn with its own domain or API prefix; the default one
	// of Conn when nil. Conn may be left out beside it.
	JetStream jetstream.JetStream
	// Prefix is the first token of Rebound's subjects, [events.DefaultPrefix] when empty.
	Prefix string
	// Policies apply until the service has others; the built-in ones when nil.
	Policies *policy.Set
	// Local keeps the breakers and limits of [Execute] in this process. Otherwise, with a
	// connection, they are those of the service.
	Local bool
	// Stores are where the service shares breakers and limits, if not in NATS; package
	// client/redisstores makes those of Redis. They need no Conn.
	Stores *Stores
	// Breakers are the breakers of [Execute], in place of the service's or its own. The caller runs
	// a group that has a store.
	Breakers *breaker.Group
	// Source is the CloudEvents source of the operations that this client submits or executes;
	// /rebound/client/ followed by the host name when empty.
	Source string
	// Logger receives what no error can report, such as events that could not be published;
	// [slog.Default] when nil.
	Logger *slog.Logger
}

// ackTimeout bounds the wait for the acknowledgement of an asynchronous publish.
const ackTimeout = 10 * time.Second

// Client gives a service access to Rebound. It is safe for concurrent use.
type Client struct {
	config   Config
	nc       *nats.Conn
	js       jetstream.JetStream
	subjects events.Subjects
	streams  events.Streams
	letters  *deadletter.Letters
	source   string
	log      *slog.Logger

	policies atomic.Pointer[policy.Set]
	sharing  *sharing
	health   *health.Registry
	pipeline *scheduler.Pipeline // used for its decisions only
	keys     keys
	start    time.Time // zero of clock
	startAt  int64     // start on the wall clock, in Unix nanoseconds

	publisher *publisher // nil without a connection
	cancel    context.CancelFunc
	running   sync.WaitGroup
	closed    atomic.Bool
}

// New returns a client, which must be closed. With a connection it reads the policies in force,
// until ctx ends at the latest, and follows them from then on; if it cannot read them it logs a
// warning and starts with [Config.Policies]. The error lists every problem of the configuration.
func New(ctx context.Context, config Config) (*Client, error) {
	c := &Client{config: config, nc: config.Conn, js: config.JetStream, start: time.Now()}
	c.startAt = c.start.UnixNano()
	if err := c.configure(); err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	c.pipeline = &scheduler.Pipeline{Health: c.health, Random: rand.Float64}
	if c.nc == nil {
		c.cancel = func() {}
		return c, nil
	}
	c.letters = deadletter.New(c.js, config.Prefix)
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c.cancel = cancel
	c.publisher = newPublisher(c.js, c.log)
	c.running.Go(func() { c.publisher.run(own) })
	f := newFollower(c)
	f.first(ctx)
	c.running.Go(func() { f.run(own) })
	return c, nil
}

func (c *Client) configure() error {
	var errs []error
	config := &c.config
	config.Prefix = cmp.Or(config.Prefix, events.DefaultPrefix)
	if err := events.CheckPrefix(config.Prefix); err != nil {
		errs = append(errs, fmt.Errorf("prefix %w", err))
	}
	switch {
	case c.nc != nil && c.js == nil:
		js, err := jetstream.New(c.nc, jetstream.WithPublishAsyncTimeout(ackTimeout))
		if err != nil {
			errs = append(errs, fmt.Errorf("opening JetStream: %w", err))
		}
		c.js = js
	case c.nc == nil && c.js != nil:
		c.nc = c.js.Conn()
	case c.nc != nil && c.js.Conn() != c.nc:
		errs = append(errs, errors.New("the access to JetStream is on another connection"))
	}
	c.subjects, c.streams = events.Subjects{Prefix: config.Prefix}, events.Streams{Prefix: config.Prefix}
	if config.Policies == nil {
		config.Policies = policy.Builtin()
	}
	c.policies.Store(config.Policies)
	c.health = health.NewRegistry()
	c.keys.keys, c.keys.meters = make(map[string]*key), make(map[string]*meter)
	if c.source = config.Source; c.source == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "unknown"
		}
		c.source = "/rebound/client/" + host
	}
	if c.log = config.Logger; c.log == nil {
		c.log = slog.Default()
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	var err error
	c.sharing, err = newSharing(c)
	return err
}

// Close hands in what is left of shared limits, publishes the events that are waiting and stops the
// client's background work. If ctx ends first, the error says how many events were not published.
// Stop workers and end iterations before closing. Calls of [Execute] that are under way go on, but
// their later events are dropped.
func (c *Client) Close(ctx context.Context) error {
	if c.closed.Swap(true) {
		return nil
	}
	c.sharing.close() // which may have events to tell
	var err error
	if c.publisher != nil {
		err = c.publisher.close(ctx)
	}
	c.cancel()
	c.running.Wait()
	return err
}

// connected returns an error unless the client has a connection and is open.
func (c *Client) connected() error {
	switch {
	case c.nc == nil:
		return ErrNotConnected
	case c.closed.Load():
		return ErrClosed
	}
	return nil
}

// clock returns the time since the client was made, on the monotonic clock, which is cheaper to
// read than the wall clock.
func (c *Client) clock() time.Duration { return time.Since(c.start) }

// at returns the wall-clock time of a reading of the clock. Unlike start.Add it has no monotonic
// clock to carry along, which makes it cheaper.
func (c *Client) at(clock time.Duration) time.Time { return time.Unix(0, c.startAt+int64(clock)) }
