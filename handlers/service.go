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

// Start makes or verifies the streams, and starts taking in submissions, redelivering
// due operations and answering requests. The caller keeps the connection, which must
// outlive the service; [Service.Stop] ends the service. The service makes three more
// connections with the same options.
//
// Start waits out what passes by itself, such as a stream without a leader, until ctx
// ends. The error is an [*streams.IncompatibleError] if a stream of ours exists and
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

// Coordination returns the state of the instances as this one sees it.
func (s *Service) Coordination() health.Coordination { return s.monitor.instances() }

// Ready returns nil if the instance can work: it is connected, not stopping, and has
// everything that it needs. The error says what is in the way.
func (s *Service) Ready() error { return s.monitor.ready() }

// HTTP returns the handler of the service's HTTP side: /healthz says that the process
// lives, /readyz that the instance can work, and /metrics serves its metrics in
// Prometheus's format.
func (s *Service) HTTP() http.Handler { return s.monitor.http() }

// Stop drains the service: it pulls nothing more, waits for the attempts in flight,
// stores their conclusions, and stores anew for another instance what has not begun. If ctx
// ends first, the rest is cut off. That loses nothing: it is redelivered when the lease is over.
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

	// DefaultForgetIdleAfter is how long an unused key is remembered.
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
	// Limits are the limits of the streams.
	Limits streams.Limits
	// Lease is how long an operation waits for another instance if the one that has
	// it in hand dies; 30 s when zero, at least 2 s.
	Lease time.Duration
	// MaxInFlight and MaxInFlightBytes bound the due operations that this instance
	// has in hand. Up to MaxInFlight more may wait until they are stored in their lanes.
	MaxInFlight      int
	MaxInFlightBytes int64
	// ForgetIdleAfter is how long the instance remembers an unused key, an hour when
	// zero: its gate, its metrics, and its breaker if that is closed and no operator
	// has changed it.
	ForgetIdleAfter time.Duration
	// Breakers is where the instances share their circuit breakers; a bucket on
	// NATS when nil.
	Breakers breaker.Store
	// Ledgers is where the instances share budgets and concurrency; a bucket on
	// NATS when nil.
	Ledgers ledger.Store
	// Backpressure says when global backpressure turns on and when an instance takes
	// less. All instances should have the same.
	Backpressure gate.Limits
	// Host returns how busy the instance's host is. It is called about once a second;
	// the host is measured when nil.
	Host func() health.Host
	// Saturation returns how far the instance uses up what is its own. It is called about
	// once a second; the process and its cgroup are measured when nil.
	Saturation func() gate.Saturation
	// Now is the host's clock, [time.Now] when nil. The service uses the NATS server's
	// clock, whose offset from Now it measures.
	Now func() time.Time
	// JetStream is JetStream on the same connection, for a domain or an API prefix;
	// the connection's default when nil.
	JetStream jetstream.JetStream
	// Waiting is called with what [Start] waits for, and with an empty reason when
	// that is over. It may be nil.
	Waiting func(reason string)
	// Trouble returns what the caller knows to be wrong with the NATS server, empty
	// for nothing. It may be nil.
	Trouble func() string
	// Version is the program's version.
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
	if err := events.CheckPrefix(c.Prefix); err != nil {
		issues = append(issues, fmt.Errorf("prefix %w", err))
	}
	if c.Policies == nil {
		c.Policies = policy.Builtin()
	}
	if c.Lease == 0 {
		c.Lease = streams.Lease
	}
	if c.Lease < 2*time.Second {
		issues = append(issues, fmt.Errorf("Lease is %s, less than 2s", c.Lease))
	}
	if c.ForgetIdleAfter == 0 {
		c.ForgetIdleAfter = DefaultForgetIdleAfter
	}
	if c.ForgetIdleAfter < time.Second {
		issues = append(issues, fmt.Errorf("ForgetIdleAfter is %s, less than 1s", c.ForgetIdleAfter))
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = DefaultMaxInFlight
	}
	if c.MaxInFlightBytes == 0 {
		c.MaxInFlightBytes = DefaultMaxInFlightBytes
	}
	if c.MaxInFlight < 0 || c.MaxInFlightBytes < 0 {
		issues = append(issues, errors.New("MaxInFlight and MaxInFlightBytes must be positive"))
	}
	if c.Version == "" {
		c.Version = "0.0.0"
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return errors.Join(issues...)
}
