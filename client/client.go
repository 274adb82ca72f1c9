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
	// Conn is the connection to NATS. Without it [Execute] works in this process alone,
	// and everything else returns [ErrNotConnected]. The caller closes it, after
	// [Client.Close].
	Conn *nats.Conn
	// JetStream is the access to JetStream on Conn, for a domain or an API prefix
	// of its own; Conn's default when nil.
	JetStream jetstream.JetStream
	// Prefix is the first token of the service's subjects,
	// [events.DefaultPrefix] when empty.
	Prefix string
	// Policies are in force until others are applied in the service; the built-in ones
	// when nil.
	Policies *policy.Set
	// Breakers are the breakers of [Execute]; those of this process alone when nil. With a
	// group that has a store, several processes and the service share them; the caller
	// runs that group.
	Breakers *breaker.Group
	// Source is the CloudEvents source of what this client submits and of the
	// operations that it executes; /rebound/client/ and the host's name when
	// empty.
	Source string
	// Logger is for what no error can say, such as that events could not be published;
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
	breakers *breaker.Group
	health   *health.Registry
	pipeline *scheduler.Pipeline // decides only
	keys     keys
	start    time.Time // what clock counts from

	publisher *publisher // nil without a connection
	cancel    context.CancelFunc
	running   sync.WaitGroup
	closed    atomic.Bool
}

// New returns a client, which must be closed. With a connection it reads the policies in
// force, until ctx ends, and follows them from then on; policies that it cannot read are
// logged and no error. The error lists all that is wrong with the configuration.
func New(ctx context.Context, config Config) (*Client, error) {
	c := &Client{config: config, nc: config.Conn, js: config.JetStream, start: time.Now()}
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
	if err := events.CheckName(config.Prefix); err != nil {
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
	if c.breakers = config.Breakers; c.breakers == nil {
		c.breakers = breaker.NewGroup(breaker.Config{})
	}
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
	return errors.Join(errs...)
}

// Close publishes the events that are waiting and ends what the client runs. When ctx ends
// first, it says how many events are lost. Stop workers and end iterations before. Calls of
// [Execute] that are under way go on, but their later events are dropped.
func (c *Client) Close(ctx context.Context) error {
	if c.closed.Swap(true) {
		return nil
	}
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

// clock returns the time since the client was made, without the cost of reading the wall
// clock.
func (c *Client) clock() time.Duration { return time.Since(c.start) }
