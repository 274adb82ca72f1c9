package handlers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/internal/ledger"
	"github.com/rebound-mq/rebound/internal/lifecycle"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/scheduler/gate"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// Service is one instance of Rebound on a NATS connection. It is safe for
// concurrent use.
type Service struct {
	id       string
	log      *slog.Logger
	registry *health.Registry
	monitor  *monitor
	requests micro.Service
	life     *lifecycle.Lifecycle
}

// Start makes or verifies the streams, and starts taking in submissions,
// redelivering due operations and answering requests. The connection stays the
// caller's and must outlive the service, which [Service.Stop] ends. The service makes
// three others with the same options.
//
// What passes by itself, such as a stream without a leader, is waited for until ctx
// ends. The error is an [*streams.IncompatibleError] when a stream of ours exists and
// cannot serve.
func Start(ctx context.Context, nc *nats.Conn, config Config) (started *Service, err error) {
	if err := config.check(); err != nil {
		return nil, fmt.Errorf("configuring the service: %w", err)
	}
	life := lifecycle.New()
	defer func() {
		if err != nil {
			err = errors.Join(err, life.End(context.WithoutCancel(ctx))) // nothing runs yet
		}
	}()
	b, err := newBase(ctx, nc, config, life)
	if err != nil {
		return nil, err
	}
	p, err := assemble(ctx, b)
	if err != nil {
		return nil, err
	}
	m := &monitor{parts: p}
	if err := m.observe(); err != nil {
		return nil, err
	}
	requests, err := serve(b, p.endpoints(m))
	if err != nil {
		return nil, err
	}
	life.Start(p.runners())
	b.log.Info("rebound is serving", "prefix", config.Prefix, "server", nc.ConnectedServerVersion())
	return &Service{id: b.id, log: b.log, registry: b.registry, monitor: m, requests: requests, life: life}, nil
}

// ID returns the instance's id.
func (s *Service) ID() string { return s.id }

// Health returns what the instance knows of the services' health.
func (s *Service) Health() *health.Registry { return s.registry }

// Coordination returns how the instances are, as this one sees them.
func (s *Service) Coordination() health.Coordination { return s.monitor.instances() }

// Ready reports whether the instance can work: it is connected and not
// stopping, and has everything that it stands on. The error says what is in the way.
func (s *Service) Ready() error { return s.monitor.ready() }

// HTTP returns the handler of the service's HTTP side: /healthz says that the
// process lives, /readyz that the instance can work, and /metrics shows its metrics
// to Prometheus.
func (s *Service) HTTP() http.Handler { return s.monitor.http() }

// Stop drains the service: nothing more is pulled, attempts in flight are waited
// for and their conclusions stored, and what is in hand but not begun is given
// back to the server for another instance. When ctx ends first, the rest is cut
// off, which loses nothing: it comes again when the lease is over.
func (s *Service) Stop(ctx context.Context) error {
	s.life.Drain()
	err := s.requests.Stop()
	if cutOff := s.life.End(ctx); cutOff != nil {
		err = errors.Join(err, fmt.Errorf("draining was cut off: %w", cutOff))
	}
	s.log.Info("rebound has stopped")
	return err
}

// Defaults of [Config].
const (
	DefaultMaxInFlight      = 8192
	DefaultMaxInFlightBytes = 256 << 20

	// DefaultForgetIdleAfter is how long a key is remembered that is not used.
	DefaultForgetIdleAfter = time.Hour
)

// Config configures a [Service]. The zero value of each field is sensible.
type Config struct {
	// Prefix is the first token of every subject, [events.DefaultPrefix] when
	// empty.
	Prefix string
	// Policies are in force while none were applied to all instances; the
	// built-in ones when nil.
	Policies *policy.Set
	// Limits are those of the streams.
	Limits streams.Limits
	// Lease is how long an operation that an instance had in hand when it died
	// waits before another takes it; 30 s when zero, at least 2 s.
	Lease time.Duration
	// MaxInFlight and MaxInFlightBytes bound the due operations that this
	// instance has in hand.
	MaxInFlight      int
	MaxInFlightBytes int64
	// ForgetIdleAfter is how long the instance remembers a key that is not used, an hour
	// when zero: its gate, its metrics, and its breaker if that is closed and no operator
	// said otherwise.
	ForgetIdleAfter time.Duration
	// Breakers is where the instances share their circuit breakers; a bucket on
	// NATS when nil.
	Breakers breaker.Store
	// Ledgers is where the instances share budgets and concurrency; a bucket on
	// NATS when nil.
	Ledgers ledger.Store
	// Backpressure says when global backpressure turns on. All instances should
	// have the same.
	Backpressure gate.Limits
	// Host says how busy the host of the instance is, about once a second; it is
	// measured when nil.
	Host func() health.Host
	// Now is the host's clock, [time.Now] when nil. The service goes by the clock of
	// the NATS server, which it measures by it.
	Now func() time.Time
	// JetStream is the access to JetStream on the same connection, for a domain
	// or an API prefix of its own; the connection's default when nil.
	JetStream jetstream.JetStream
	// Waiting is called with what [Start] waits for, and empty when that is over; nil
	// is nobody.
	Waiting func(reason string)
	// Trouble says what is wrong with the NATS server, empty for nothing, when whoever
	// starts the service knows; nil is nobody.
	Trouble func() string
	// Version is the program's.
	Version string
	// Logger is where the service logs, [slog.Default] when nil.
	Logger *slog.Logger
}

// check fills in defaults and reports every issue.
func (c *Config) check() error {
	var issues []error
	if c.Prefix == "" {
		c.Prefix = events.DefaultPrefix
	}
	if err := events.CheckName(c.Prefix); err != nil {
		issues = append(issues, fmt.Errorf("prefix %w", err))
	}
	if c.Policies == nil {
		c.Policies = policy.Builtin()
	}
	if c.Lease == 0 {
		c.Lease = streams.Lease
	}
	if c.Lease < 2*time.Second {
		issues = append(issues, fmt.Errorf("lease %s is shorter than 2s", c.Lease))
	}
	if c.ForgetIdleAfter == 0 {
		c.ForgetIdleAfter = DefaultForgetIdleAfter
	}
	if c.ForgetIdleAfter < time.Second {
		issues = append(issues, fmt.Errorf("what is idle cannot be forgotten after %s, which is less than 1s", c.ForgetIdleAfter))
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = DefaultMaxInFlight
	}
	if c.MaxInFlightBytes == 0 {
		c.MaxInFlightBytes = DefaultMaxInFlightBytes
	}
	if c.MaxInFlight < 0 || c.MaxInFlightBytes < 0 {
		issues = append(issues, errors.New("the bounds of what is in hand must be positive"))
	}
	if c.Version == "" {
		c.Version = "0.0.0"
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return errors.Join(issues...)
}
