package handlers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nuid"
	"golang.org/x/time/rate"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/breaker/natsstore"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/internal/cluster"
	"github.com/rebound-mq/rebound/internal/deadletter"
	"github.com/rebound-mq/rebound/internal/host"
	"github.com/rebound-mq/rebound/internal/keeper"
	"github.com/rebound-mq/rebound/internal/lanes"
	"github.com/rebound-mq/rebound/internal/ledger"
	"github.com/rebound-mq/rebound/internal/natsconn"
	"github.com/rebound-mq/rebound/internal/notify"
	"github.com/rebound-mq/rebound/internal/opstore"
	"github.com/rebound-mq/rebound/internal/pull"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/internal/telemetry"
	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/scheduler/gate"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// Defaults of [Config].
const (
	DefaultMaxInFlight      = 8192
	DefaultMaxInFlightBytes = 256 << 20

	// DefaultForgetIdleAfter is how long a key is remembered that is not used.
	DefaultForgetIdleAfter = time.Hour

	// intakeInFlight is how many submissions are taken in at once.
	intakeInFlight = 512
	// duePulls is over how many pulls the in-flight limit is split at least, so that a
	// pull that waits for operations of one priority leaves some to the others.
	duePulls = 8
	// maxAckPending is how many messages of one consumer all instances together
	// may have in hand.
	maxAckPending = 1 << 16
	// forgetAfter is how long what was read to recover from a crash is kept.
	forgetAfter    = time.Minute
	housekeepEvery = 10 * time.Second
	// shortestBackoff and longestBackoff bound the pauses between two tries.
	shortestBackoff = 50 * time.Millisecond
	longestBackoff  = 2 * time.Second
	// warnEvery is how often the log tells of what may happen very often.
	warnEvery = time.Minute
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

// check fills in defaults and reports every fault.
func (c *Config) check() error {
	var faults []error
	if c.Prefix == "" {
		c.Prefix = events.DefaultPrefix
	}
	if err := events.CheckName(c.Prefix); err != nil {
		faults = append(faults, fmt.Errorf("prefix %w", err))
	}
	if c.Policies == nil {
		c.Policies = policy.Builtin()
	}
	if c.Lease == 0 {
		c.Lease = streams.Lease
	}
	if c.Lease < 2*time.Second {
		faults = append(faults, fmt.Errorf("lease %s is shorter than 2s", c.Lease))
	}
	if c.ForgetIdleAfter == 0 {
		c.ForgetIdleAfter = DefaultForgetIdleAfter
	}
	if c.ForgetIdleAfter < time.Second {
		faults = append(faults, fmt.Errorf("what is idle cannot be forgotten after %s, which is less than 1s", c.ForgetIdleAfter))
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = DefaultMaxInFlight
	}
	if c.MaxInFlightBytes == 0 {
		c.MaxInFlightBytes = DefaultMaxInFlightBytes
	}
	if c.MaxInFlight < 0 || c.MaxInFlightBytes < 0 {
		faults = append(faults, errors.New("the bounds of what is in hand must be positive"))
	}
	if c.Version == "" {
		c.Version = "0.0.0"
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return errors.Join(faults...)
}

// Service is one instance of Rebound on a NATS connection. It is safe for
// concurrent use.
type Service struct {
	config Config
	nc     *nats.Conn
	js     jetstream.JetStream
	// reading and sharing are on connections of their own. To read much, or to count
	// it, takes a server up to a tenth of a second for 100,000 messages, in which what
	// is redelivered would seem to have a slow target. And what instances share must
	// be at hand however much they have to store.
	reading jetstream.JetStream
	sharing jetstream.JetStream
	// looking is on a connection of its own, too: what is taken in before its turn
	// must not stand behind what is taken in.
	looking  jetstream.JetStream
	subjects events.Subjects
	streams  events.Streams
	letters  *deadletter.Letters
	id       string
	started  time.Time
	clock    *natsconn.Clock
	log      *slog.Logger

	policies atomic.Pointer[policy.Set]
	follower *policyFollower
	registry *health.Registry
	reports  *cluster.HealthReports
	recovery *opstore.Recovery
	breakers *breakers
	gates    *scheduler.Gates
	leases   *ledger.Leases
	ledger   *ledger.NATS // nil when the limits are shared elsewhere
	lanes    *lanes.Lanes
	store    *opstore.Store
	intake   *intake
	ahead    *ahead
	limit    *submissionLimit
	// workReports are those of workers.
	workReports *workReports
	pullers     []*pull.Puller
	micro       micro.Service
	// member is this instance among the others, inFlight bounds what it has in flight,
	// and dues pull the due operations.
	member   *cluster.Member
	dues     []*pull.Puller
	inFlight *pull.Limit
	metrics  *telemetry.Metrics
	// adoptions takes over what adopted consumers give up.
	adoptions *adopting
	// keeper sees to it that the streams are there, and storage knows whether they take
	// what is to be stored.
	keeper  *keeper.Keeper
	storage *opstore.Storage
	missing notify.Signal          // set when a stream or a consumer may be missing
	leader  *natsconn.StreamLeader // of the waiting operations
	// elections knows since when that server leads.
	elections *opstore.Elections

	// waiter waits at the start for what passes by itself.
	waiter   *natsconn.Waiter
	draining chan struct{}
	drain    sync.Once
	cancel   context.CancelFunc
	// pulling is done when every puller has drained, rest when everything else
	// has ended too.
	pulling sync.WaitGroup
	rest    sync.WaitGroup
	mu      sync.Mutex
	stopped bool // guarded by mu; no request is begun once it is true
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
	js := config.JetStream
	if js == nil {
		if js, err = jetstream.New(nc); err != nil {
			return nil, fmt.Errorf("opening JetStream: %w", err)
		}
	}
	waiter := natsconn.NewWaiter(nc, config.Waiting, config.Logger)
	reading, err := waiter.Dedicated(ctx, js, "reading")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			reading.Conn().Close()
		}
	}()
	sharing, err := waiter.Dedicated(ctx, js, "sharing")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			sharing.Conn().Close()
		}
	}()
	looking, err := waiter.Dedicated(ctx, js, "intake")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			looking.Conn().Close()
		}
	}()
	id := nuid.Next()
	s := &Service{
		config: config, nc: nc, js: js, reading: reading, sharing: sharing, looking: looking, id: id, started: time.Now(), clock: natsconn.NewClock(config.Now),
		subjects: events.Subjects{Prefix: config.Prefix}, streams: events.Streams{Prefix: config.Prefix},
		letters: deadletter.New(reading, config.Prefix), log: config.Logger.With("instance", id),
		registry: health.NewRegistry(), draining: make(chan struct{}), waiter: waiter, missing: notify.NewSignal(),
	}
	s.storage = opstore.NewStorage(js, s.missing.Set)
	s.elections = opstore.NewElections(s.askLeader, s.clock.Now, func() uint64 { return nc.Stats().Reconnects })
	s.leader = natsconn.NewStreamLeader(js, s.streams.Waiting(), s.clock, s.elections.Heard, s.log)
	if s.metrics, err = telemetry.NewMetrics(id, config.Version); err != nil {
		return nil, fmt.Errorf("making the metrics: %w", err)
	}
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	s.keeper = s.newKeeper()
	if s.reports, err = cluster.HearHealth(nc, s.subjects, s.registry, s.clock.Now, s.log); err != nil {
		return nil, err
	}
	if s.member, err = s.join(); err != nil {
		return nil, errors.Join(err, s.reports.Close())
	}
	sweeper, forgetter := s.newSweeper(), keeper.NewForgetter(config.ForgetIdleAfter, s.forget)
	runCtx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	if err := s.serve(runCtx); err != nil {
		cancel()
		return nil, errors.Join(err, s.reports.Close(), s.member.Close())
	}
	for _, p := range s.pullers {
		s.pulling.Go(func() { p.Run(runCtx) })
	}
	s.rest.Go(func() { s.breakers.run(runCtx) })
	s.rest.Go(func() { s.leases.Run(runCtx) })
	s.rest.Go(func() { s.lanes.Run(runCtx) })
	s.pulling.Go(func() { s.ahead.run(runCtx) })
	s.pulling.Go(func() { s.adoptions.takeOver(runCtx) })
	s.pulling.Go(func() { s.adoptions.relay.Run(runCtx) })
	s.rest.Go(func() { s.adoptions.follower.Run(runCtx) })
	s.rest.Go(func() { s.keeper.Run(runCtx) })
	s.rest.Go(func() { sweeper.Run(runCtx) })
	s.rest.Go(func() { s.housekeep(runCtx) })
	s.rest.Go(func() { forgetter.Run(runCtx) })
	s.rest.Go(func() { s.follower.run(runCtx) })
	s.rest.Go(func() { s.reports.Run(runCtx) })
	s.rest.Go(func() { s.member.Run(runCtx) })
	s.rest.Go(func() { s.inFlight.Run(runCtx) })
	if config.Host == nil {
		s.rest.Go(func() { s.sampler().Run(runCtx) })
	}
	s.log.Info("rebound is serving", "prefix", config.Prefix, "server", nc.ConnectedServerVersion())
	return s, nil
}

// prepare makes or verifies what the service needs in JetStream, and builds its
// parts.
func (s *Service) prepare(ctx context.Context) error {
	for _, c := range streams.Configs(s.streams, s.config.Limits) {
		err := s.waiter.Await(ctx, "stream "+c.Name, func(ctx context.Context) error {
			return streams.Ensure(ctx, s.js, []jetstream.StreamConfig{c})
		})
		if err != nil {
			return err
		}
	}
	if err := s.waiter.Await(ctx, "the time of the server", s.leader.Measure); err != nil {
		return err
	}
	err := s.waiter.Await(ctx, "the policies in force", func(ctx context.Context) (err error) {
		s.follower, err = follow(ctx, s.js, s.config, s.policies.Store, s.log)
		return err
	})
	if err != nil {
		return err
	}
	if err := s.wire(ctx); err != nil {
		return err
	}
	if err := s.waiter.Await(ctx, "the adopted consumers", s.adopt); err != nil {
		return err
	}
	for _, stream := range []string{s.streams.Intake(), s.streams.Waiting()} {
		err := s.waiter.Await(ctx, "the consumers of stream "+stream, func(ctx context.Context) error {
			return s.ensureConsumers(ctx, stream)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// wire builds the parts and joins them.
func (s *Service) wire(ctx context.Context) error {
	persister := opstore.NewPersister(s.storage, s.log, rand.Float64)
	var keys *lanes.Keys
	err := s.waiter.Await(ctx, "the bucket of the lanes", func(ctx context.Context) (err error) {
		keys, err = lanes.OpenKeys(ctx, s.js, persister, lanes.KeysConfig{
			Prefix: s.config.Prefix, Reading: s.reading, Replicas: s.config.Limits.Replicas, ForgetAfter: s.config.ForgetIdleAfter, Log: s.log,
		})
		return err
	})
	if err != nil {
		return err
	}
	st := opstore.New(s.js, persister, opstore.Config{
		Prefix: s.config.Prefix, Clock: s.clock, MaxPayload: s.nc.MaxPayload(), Lanes: keys, Elections: s.elections, Meter: s.metrics,
	})
	s.store = st
	s.recovery = opstore.NewRecovery(st, s.reading, s.letters)
	shared := s.config.Breakers
	if shared == nil {
		shared = natsstore.New(s.sharing, s.streams.BreakersBucket(), s.config.Limits.Replicas)
	}
	s.breakers = newBreakers(breakersConfig{
		instance: s.id, shared: shared, forget: s.config.ForgetIdleAfter, store: st, subjects: s.subjects, now: s.clock.Now, room: keys.Changed, log: s.log,
		heard: func(c breaker.Change) {
			s.gates.Changed(c)
			keys.BreakerChanged(c)
		},
	})
	ledgers := s.config.Ledgers
	if ledgers == nil {
		s.ledger = ledger.NewNATS(s.sharing, s.streams.LedgersBucket(), s.config.Limits.Replicas)
		if err := s.waiter.Await(ctx, "the bucket of the limits", s.ledger.Join); err != nil {
			return err
		}
		ledgers = s.ledger
	}
	wanted := ledger.NewQueue()
	s.gates = scheduler.NewGates(s.breakers.group, scheduler.GatesConfig{Room: keys.Changed, Lease: wanted.Want, Now: s.clock.Now})
	s.leases = ledger.NewLeases(wanted, s.gates, ledger.LeasesConfig{Instance: s.id, Store: ledgers, Now: s.clock.Now, Log: s.log})
	s.lanes = lanes.New(keys, st, lanes.Config{Gates: s.gates, Policies: s.policies.Load, Now: s.clock.Now})
	s.breakers.join(ctx)
	pipeline := &scheduler.Pipeline{
		Policies: s.policies.Load, Store: st, Ends: s.recovery, Target: &requester{nc: s.nc}, Publisher: s.publisher(), CheckTarget: s.subjects.CheckTarget,
		Gates: s.gates, Health: s.registry, Began: s.metrics.Began, Attempted: s.metrics.Attempted,
		Now: s.clock.Now, Random: rand.Float64, Draining: s.draining,
	}
	s.intake = &intake{
		subjects: s.subjects, pipeline: pipeline, letters: s.letters, metrics: s.metrics,
		maxPayload: s.nc.MaxPayload(),
	}
	s.workReports = &workReports{
		subjects: s.subjects, pipeline: pipeline, log: s.log, warn: rate.Sometimes{First: 1, Interval: warnEvery},
	}
	waiting := &submissions{js: s.js, store: st, subjects: s.subjects, streams: s.streams}
	err = s.waiter.Await(ctx, "the stream of submissions", func(ctx context.Context) (err error) {
		if waiting.stream, err = s.js.Stream(ctx, s.streams.Intake()); err == nil {
			s.ahead, err = s.lookAhead(ctx, pipeline)
		}
		return err
	})
	if err != nil {
		return err
	}
	s.intake.pending = s.ahead.noticed
	s.limit = &submissionLimit{
		most: uint64(max(s.config.Limits.MaxSubmitted, 0)), submissions: waiting, log: s.log,
		warn: rate.Sometimes{First: 1, Interval: warnEvery}, counts: make(map[string]*counted),
	}
	redeliver := &due{
		pipeline: pipeline, store: st, clock: s.clock, stream: s.streams.Waiting(), submissions: waiting, letters: deadletter.New(s.js, s.config.Prefix), draining: s.draining,
	}

	add := func(stream, name, filter string, limit *pull.Limit, bytes *pull.Bytes, handle pull.Handler) *pull.Puller {
		p := pull.New(pull.Durable(s.js, stream, streams.Consumer(name, filter, s.config.Lease, maxAckPending)), handle, pull.Config{
			Conn: s.nc, Limit: limit, Bytes: bytes, Missed: s.missing.Set, Draining: s.draining, Log: s.log,
		})
		s.pullers = append(s.pullers, p)
		return p
	}
	add(s.streams.Intake(), intakeConsumer, s.subjects.Submissions(),
		pull.NewLimit(intakeInFlight, 1), pull.NewBytes(s.config.MaxInFlightBytes), s.intake.handle)
	add(s.streams.Intake(), reportConsumer, s.subjects.Reports(),
		pull.NewLimit(intakeInFlight, 1), pull.NewBytes(s.config.MaxInFlightBytes), s.workReports.handle)
	s.inFlight = pull.NewLimit(s.config.MaxInFlight, duePulls)
	bytes := pull.NewBytes(s.config.MaxInFlightBytes)
	for _, p := range events.Priorities {
		s.dues = append(s.dues, add(s.streams.Waiting(), "rebound-due-"+p.String(), s.subjects.DueOf(p), s.inFlight, bytes, redeliver.handle))
	}
	return s.observe(s.dues)
}

// intakeConsumer is the consumer of submissions, reportConsumer that of what workers
// report.
const (
	intakeConsumer = "rebound-intake"
	reportConsumer = "rebound-report"
)

// lookAhead returns what takes submissions in before their turn. It works on a
// connection of its own.
func (s *Service) lookAhead(ctx context.Context, pipeline *scheduler.Pipeline) (*ahead, error) {
	stream, err := s.looking.Stream(ctx, s.streams.Intake())
	if err != nil {
		return nil, fmt.Errorf("reading stream %s: %w", s.streams.Intake(), err)
	}
	own := opstore.New(s.looking, opstore.NewPersister(s.storage, s.log, rand.Float64), opstore.Config{
		Prefix: s.config.Prefix, Clock: s.clock, MaxPayload: s.nc.MaxPayload(), Meter: s.metrics,
	})
	placing := *pipeline
	placing.Store = own
	return &ahead{
		js: s.looking, store: own, streams: s.streams, intake: s.intake, pipeline: &placing,
		submissions: &submissions{js: s.looking, store: own, subjects: s.subjects, streams: s.streams, stream: stream},
		consumer:    intakeConsumer, leads: func() (int, bool) { return s.member.Leads() }, log: s.log,
		warn: rate.Sometimes{First: 1, Interval: warnAhead}, wake: make(chan struct{}, 1), draining: s.draining,
	}, nil
}

// publisher publishes to the streams of workers.
func (s *Service) publisher() *publisher {
	return &publisher{js: s.js, subjects: s.subjects, work: streams.WorkConfig(s.streams, s.config.Limits), log: s.log}
}

// sampler measures the host that the instance runs on.
func (s *Service) sampler() *host.Sampler {
	return &host.Sampler{Measured: s.registry.SetHost, Failed: func(err error) {
		s.log.Warn("the host is measured in part only; what is missing counts as idle", "error", err)
	}}
}

// ensureConsumers makes the consumers of a stream: before anything is pulled, so that
// a missing permission is an error at start, and when the stream was made anew.
func (s *Service) ensureConsumers(ctx context.Context, stream string) error {
	for _, p := range s.pullers {
		if p.Stream() != stream {
			continue
		}
		if err := p.Ensure(ctx); err != nil {
			return err
		}
	}
	return nil
}

// housekeep drops what is no longer needed. After a burst of work it hands the
// memory back to the system, which the runtime would do only in part.
func (s *Service) housekeep(ctx context.Context) {
	ticker := time.NewTicker(housekeepEvery)
	defer ticker.Stop()
	var before, released uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		s.recovery.Forget(forgetAfter)
		s.registry.Forget(time.Time{}, s.clock.Now())
		var handled uint64
		for _, p := range s.pullers {
			handled += p.Handled()
		}
		if handled == before && handled != released {
			debug.FreeOSMemory()
			released = handled
		}
		before = handled
	}
}

// during runs do, which Stop waits for, unless the service has stopped.
func (s *Service) during(do func()) {
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return
	}
	s.rest.Add(1)
	s.mu.Unlock()
	defer s.rest.Done()
	do()
}

// ID returns the instance's id.
func (s *Service) ID() string { return s.id }

// Health returns what the instance knows of the services' health.
func (s *Service) Health() *health.Registry { return s.registry }

// Ready reports whether the instance can work: it is connected and not
// stopping, and has everything that it stands on. The error says what is in the way.
func (s *Service) Ready() error {
	select {
	case <-s.draining:
		return errors.New("the instance is stopping")
	default:
	}
	if !s.nc.IsConnected() {
		return errors.New("the instance is not connected to NATS")
	}
	if s.config.Trouble != nil {
		if trouble := s.config.Trouble(); trouble != "" {
			return errors.New(trouble)
		}
	}
	if err := s.keeper.Problem(); err != nil {
		return err
	}
	if full := s.storage.Problem(); full != "" {
		return errors.New(full)
	}
	return nil
}

// Stop drains the service: nothing more is pulled, attempts in flight are waited
// for and their conclusions stored, and what is in hand but not begun is given
// back to the server for another instance. When ctx ends first, the rest is cut
// off, which loses nothing: it comes again when the lease is over.
func (s *Service) Stop(ctx context.Context) error {
	s.drain.Do(func() { close(s.draining) })
	err := s.micro.Stop()
	done := make(chan struct{})
	go func() {
		s.waitPullers()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		err = errors.Join(err, fmt.Errorf("draining was cut off: %w", ctx.Err()))
		s.cancel()
		<-done
	}
	s.log.Info("rebound has stopped")
	return err
}

// waitPullers waits for the pullers, which end by themselves once draining, and
// then ends the rest.
func (s *Service) waitPullers() {
	s.pulling.Wait()
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.cancel()
	s.rest.Wait()
	s.reading.Conn().Close()
	s.sharing.Conn().Close()
	s.looking.Conn().Close()
}
