package handlers

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"golang.org/x/time/rate"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/breaker/natsstore"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/internal/cluster"
	"github.com/rebound-mq/rebound/internal/deadletter"
	"github.com/rebound-mq/rebound/internal/host"
	"github.com/rebound-mq/rebound/internal/inbox"
	"github.com/rebound-mq/rebound/internal/intake"
	"github.com/rebound-mq/rebound/internal/keeper"
	"github.com/rebound-mq/rebound/internal/lanes"
	"github.com/rebound-mq/rebound/internal/ledger"
	"github.com/rebound-mq/rebound/internal/lifecycle"
	"github.com/rebound-mq/rebound/internal/natsconn"
	"github.com/rebound-mq/rebound/internal/opstore"
	"github.com/rebound-mq/rebound/internal/pauses"
	"github.com/rebound-mq/rebound/internal/pull"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

const (
	// intakeConsumer is the consumer of submissions, reportConsumer that of workers'
	// reports.
	intakeConsumer = "rebound-intake"
	reportConsumer = "rebound-report"

	// intakeInFlight is how many submissions are taken in at once.
	intakeInFlight = 512
	// duePulls is how many pulls the in-flight limit is split over at least, so that a
	// pull that waits for operations of one priority leaves some to the others.
	duePulls = 8
	// probersShare is which part of what an instance may have in flight may wait for absent
	// targets.
	probersShare = 8
	// maxAckPending is how many messages of one consumer all instances together may
	// have in hand.
	maxAckPending = 1 << 16
	// shortestBackoff and longestBackoff bound the pauses between two tries.
	shortestBackoff = 50 * time.Millisecond
	longestBackoff  = 2 * time.Second
	// warnEvery is how often the log repeats a warning.
	warnEvery = time.Minute
)

// parts are the parts of an instance. Each is built from those above it.
type parts struct {
	*base
	policies *policyFollower
	operations
	gated
	pipeline    *scheduler.Pipeline
	publisher   *publisher
	submissions *intake.Submissions
	limit       *intake.Limit // of the submissions of one service
	// dues pull the due operations, within the in-flight limit.
	inFlight *pull.Limit
	dues     []*pull.Puller
	// member is this instance's membership among the instances.
	member *cluster.Member
	// intake takes submissions in, and fairShare keeps that fair between services.
	fairShare *intake.FairShare
	intake    *submitHandler
	// workReports takes in workers' reports, healthReports those of services on
	// their health.
	workReports   *workReports
	healthReports *cluster.HealthReports
	// pullers are the pullers of submissions and reports, and the dues.
	pullers []*pull.Puller
	// adoptions takes over messages that adopted consumers gave up.
	adoptions *adopting
	// keeper makes streams that vanish anew.
	keeper *keeper.Keeper
	// sweeper fires what the server forgot.
	sweeper *keeper.Sweeper
}

// operations are the parts that keep the operations of an instance.
type operations struct {
	persister *opstore.Persister
	keys      *lanes.Keys // that have lanes
	burials   *opstore.Burials
	store     *opstore.Store
	recovery  *opstore.Recovery
}

// gated are the parts that decide whether a due operation may go.
type gated struct {
	breakers *breakers
	circuits *natsstore.Store // nil when the breakers are shared elsewhere
	ledger   *ledger.NATS     // nil when the limits are shared elsewhere
	gates    *scheduler.Gates
	leases   *ledger.Leases
	lanes    *lanes.Lanes
	pauses   *pauses.Requests
	echo     *natsconn.Echo // the instance's own part of response times
}

// assemble builds the parts and makes the instance known to the others.
func assemble(ctx context.Context, b *base) (*parts, error) {
	p := &parts{base: b}
	for _, step := range []func(context.Context) error{
		p.followPolicies, p.keepOperations, p.gateOperations, p.pause, p.pullDue, p.join, p.takeIn, p.adopt, p.consume,
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	p.keeper, p.sweeper = p.newKeeper(), p.newSweeper()
	p.publisher.prepare(ctx, p.policies.inForce())
	return p, nil
}

// runners returns the loops of an instance.
func (p *parts) runners() []lifecycle.Runner {
	var all []lifecycle.Runner
	for _, puller := range p.pullers {
		all = append(all, lifecycle.Runner{Run: puller.Run, Drains: true})
	}
	all = append(all,
		lifecycle.Runner{Run: p.fairShare.Run, Drains: true},
		lifecycle.Runner{Run: p.adoptions.takeOver, Drains: true},
		lifecycle.Runner{Run: p.adoptions.relay.Run, Drains: true},
	)
	for _, run := range []func(context.Context){
		p.breakers.run, p.leases.Run, p.lanes.Run, p.adoptions.follower.Run, p.pauses.Follower.Run, p.keeper.Run, p.sweeper.Run, p.burials.Run, p.newAckedSweeper().Run, p.housekeep,
		keeper.NewForgetter(p.config.ForgetIdleAfter, p.forget).Run, p.policies.run, p.healthReports.Run, p.member.Run, p.inFlight.Run, p.echo.Run,
	} {
		all = append(all, lifecycle.Runner{Run: run})
	}
	if p.config.Host == nil {
		all = append(all, lifecycle.Runner{Run: p.sampler().Run})
	}
	return all
}

// followPolicies puts the policies of the bucket in force.
func (p *parts) followPolicies(ctx context.Context) error {
	return p.waiter.Await(ctx, "the policies in force", func(ctx context.Context) (err error) {
		p.policies, err = follow(ctx, p.js, p.config, p.log)
		return err
	})
}

// keepOperations builds the parts that keep the operations.
func (p *parts) keepOperations(ctx context.Context) error {
	p.persister = opstore.NewPersister(p.storage, p.log, rand.Float64)
	err := p.waiter.Await(ctx, "the bucket of the lanes", func(ctx context.Context) (err error) {
		p.keys, err = lanes.OpenKeys(ctx, p.js, p.persister, lanes.KeysConfig{
			Prefix: p.config.Prefix, Reading: p.reading, Replicas: p.config.Limits.Replicas, ForgetAfter: p.config.ForgetIdleAfter, Log: p.log,
		})
		return err
	})
	if err != nil {
		return err
	}
	p.burials = opstore.NewBurials(p.log)
	p.store = opstore.New(p.js, p.persister, opstore.Config{
		Publisher: inbox.Publisher{Inbox: p.inbox}, Prefix: p.config.Prefix, Clock: p.clock, MaxPayload: p.nc.MaxPayload(), Lanes: p.keys, Elections: p.elections, Meter: p.metrics, Burials: p.burials,
	})
	p.recovery = opstore.NewRecovery(p.store, p.reading, p.letters)
	return nil
}

// gateOperations opens the stores of shared breakers and limits, and builds the gates
// and lanes that use them.
func (p *parts) gateOperations(ctx context.Context) error {
	var gates *scheduler.Gates // set before the breakers call freed or heard
	shared := p.config.Breakers
	if shared == nil {
		p.circuits = natsstore.New(p.sharing, p.streams.BreakersBucket(), p.config.Limits.Replicas)
		shared = p.circuits
	}
	p.breakers = newBreakers(breakersConfig{
		instance: p.id, shared: shared, forget: p.config.ForgetIdleAfter, store: p.store, subjects: p.subjects, now: p.clock.Now, log: p.log,
		freed: func(key string) { gates.Freed(key) },
		heard: func(c breaker.Change) {
			gates.Changed(c)
			p.keys.BreakerChanged(c)
		},
	})
	limits := p.config.Ledgers
	if limits == nil {
		p.ledger = ledger.NewNATS(p.sharing, p.streams.LedgersBucket(), p.config.Limits.Replicas)
		if err := p.waiter.Await(ctx, "the bucket of the limits", p.ledger.Join); err != nil {
			return err
		}
		limits = p.ledger
	}
	p.inFlight = pull.NewLimit(p.config.MaxInFlight, duePulls)
	wanted := ledger.NewQueue()
	p.echo = natsconn.NewEcho(p.nc, func() bool { return gates.Active() > 0 })
	gates = scheduler.NewGates(p.breakers.group, scheduler.GatesConfig{
		Opened: p.keys.Changed, Lease: wanted.Want, OwnDelay: p.echo.Own, Draining: p.life.Draining(), Shut: logShut(p.log), Capacity: p.inFlight.Shared, MostProbers: p.config.MaxInFlight / probersShare, Now: p.clock.Now,
	})
	p.gates = gates
	p.leases = ledger.NewLeases(wanted, gates, ledger.LeasesConfig{Instance: p.id, Store: limits, Now: p.clock.Now, Log: p.log})
	p.lanes = lanes.New(p.keys, p.store, lanes.Config{Gates: gates, Policies: p.policies.inForce, Now: p.clock.Now, Stranded: p.metrics.Stranded})
	p.breakers.join(ctx)
	deny := newDenials(p.log)
	var err error
	if p.publisher, err = newPublisher(p.js, inbox.Publisher{Inbox: p.inbox}, p.subjects, streams.WorkConfig(p.streams, p.config.Limits), deny, p.log); err != nil {
		return err
	}
	p.pipeline = &scheduler.Pipeline{
		Policies: p.policies.inForce, Store: p.store, Ends: p.recovery, Target: newRequester(p.nc, p.link, p.inbox, deny, p.log), Publisher: p.publisher, CheckTarget: p.subjects.CheckTarget,
		Gates: gates, Health: p.registry, Began: p.metrics.Began, Attempted: p.metrics.Attempted,
		Now: p.clock.Now, Random: rand.Float64, Draining: p.life.Draining(),
	}
	return nil
}

// logShut returns a function that logs each key that begins to hold operations, or only some
// of many.
func logShut(log *slog.Logger) func(key string, cause gate.Cause, subject string) {
	const burst = 20
	limit := rate.NewLimiter(rate.Every(time.Second), burst)
	return func(key string, cause gate.Cause, subject string) {
		level := slog.LevelWarn
		if !limit.Allow() {
			level = slog.LevelDebug
		}
		log.Log(context.Background(), level, "operations of a key are held", "key", key, "cause", cause, "target", subject)
	}
}

// pause puts the pauses in force, before the first attempt.
func (p *parts) pause(ctx context.Context) error {
	return p.waiter.Await(ctx, "what is paused", func(ctx context.Context) error {
		bucket, err := pauses.Ensure(ctx, p.js, p.config.Prefix, p.config.Limits.Replicas)
		if err != nil {
			return err
		}
		follower := pauses.NewFollower(bucket, pauses.Config{
			InForce: p.gates.SetPauses, Subjects: p.subjects, Publish: p.store.Publish, Leads: func() bool { return p.member.NoOtherLeads() }, Now: p.clock.Now, Log: p.log,
		})
		p.pauses = &pauses.Requests{Bucket: bucket, Follower: follower, Subjects: p.subjects, Publish: p.store.Publish, Now: p.clock.Now, Log: p.log}
		return follower.Read(ctx)
	})
}

// pullDue builds the pullers that deliver due operations to their targets.
func (p *parts) pullDue(ctx context.Context) error {
	err := p.waiter.Await(ctx, "the stream of submissions", func(ctx context.Context) (err error) {
		p.submissions, err = intake.OpenSubmissions(ctx, p.js, p.persister, p.config.Prefix)
		return err
	})
	if err != nil {
		return err
	}
	p.limit = intake.NewLimit(uint64(max(p.config.Limits.MaxSubmitted, 0)), p.submissions, p.log)
	redeliver := &due{
		pipeline: p.pipeline, store: p.store, clock: p.clock, stream: p.streams.Waiting(), submissions: p.submissions,
		letters: deadletter.New(p.js, p.config.Prefix), draining: p.life.Draining(),
	}
	bytes := pull.NewBytes(p.config.MaxInFlightBytes)
	later := pull.NewQueue(p.inFlight)
	for _, priority := range events.Priorities {
		p.dues = append(p.dues, p.puller(source{
			stream: p.streams.Waiting(), consumer: "rebound-due-" + priority.String(), filter: p.subjects.DueOf(priority),
			limit: p.inFlight, bytes: bytes, later: later, missed: p.missing.Set,
		}, redeliver.handle))
	}
	return nil
}

// source is what a puller pulls.
type source struct {
	stream, consumer string
	filter           string // of subjects, empty for all
	limit            *pull.Limit
	bytes            *pull.Bytes
	later            *pull.Queue // nil if no work can wait
	missed           func()      // see [pull.Config]
}

// puller returns a puller that hands messages to handle.
func (p *parts) puller(s source, handle pull.Handler) *pull.Puller {
	return pull.New(pull.Durable(p.js, s.stream, streams.Consumer(s.consumer, s.filter, p.config.Lease, maxAckPending)), handle, pull.Config{
		Conn: p.nc, Link: p.link, Limit: s.limit, Bytes: s.bytes, Later: s.later, Missed: s.missed, Draining: p.life.Draining(), Log: p.log,
	})
}

// takeIn builds the intake of submissions and workers' reports.
func (p *parts) takeIn(ctx context.Context) error {
	err := p.waiter.Await(ctx, "the stream of submissions", func(ctx context.Context) (err error) {
		p.fairShare, err = p.shareFairly(ctx)
		return err
	})
	if err != nil {
		return err
	}
	p.intake = &submitHandler{
		subjects: p.subjects, pipeline: p.pipeline, letters: p.letters, metrics: p.metrics,
		maxPayload: p.nc.MaxPayload(), pending: p.fairShare.Pending,
	}
	p.workReports = &workReports{
		subjects: p.subjects, pipeline: p.pipeline, now: p.clock.Now, log: p.log, warn: rate.Sometimes{First: 1, Interval: warnEvery},
	}
	for _, in := range []struct {
		consumer, filter string
		handle           pull.Handler
	}{
		{intakeConsumer, p.subjects.Submissions(), p.intake.handle},
		{reportConsumer, p.subjects.Reports(), p.workReports.handle},
	} {
		p.pullers = append(p.pullers, p.puller(source{
			stream: p.streams.Intake(), consumer: in.consumer, filter: in.filter,
			limit: pull.NewLimit(intakeInFlight, 1), bytes: pull.NewBytes(p.config.MaxInFlightBytes), missed: p.missing.Set,
		}, in.handle))
	}
	p.pullers = append(p.pullers, p.dues...)
	return nil
}

// shareFairly returns the fair share of the intake, on a connection of its own.
func (p *parts) shareFairly(ctx context.Context) (*intake.FairShare, error) {
	persister := opstore.NewPersister(p.storage, p.log, rand.Float64)
	submissions, err := intake.OpenSubmissions(ctx, p.ahead, persister, p.config.Prefix)
	if err != nil {
		return nil, err
	}
	placing := *p.pipeline
	placing.Store = opstore.New(p.ahead, persister, opstore.Config{
		Publisher: p.placing, Prefix: p.config.Prefix, Clock: p.clock, MaxPayload: p.nc.MaxPayload(), Meter: p.metrics, Burials: p.burials,
	})
	return intake.NewFairShare(submissions, &placing, intake.FairShareConfig{
		Prefix: p.config.Prefix, Consumer: intakeConsumer, Service: p.subjects.API(), MaxPayload: p.nc.MaxPayload(),
		Leads: p.member.Leads, Meter: p.metrics, Draining: p.life.Draining(), Log: p.log,
	}), nil
}

// join makes this instance a member and subscribes to the services' health reports.
func (p *parts) join(context.Context) (err error) {
	if p.healthReports, err = cluster.HearHealth(p.nc, p.subjects, p.registry, p.clock.Now, p.log); err != nil {
		return err
	}
	p.life.Cleanup(func() { _ = p.healthReports.Close() }) // Run may have closed it
	pullers := make([]cluster.Puller, len(p.dues))
	for i, puller := range p.dues {
		pullers[i] = puller
	}
	p.member, err = cluster.Join(p.nc, cluster.Config{
		Prefix: p.config.Prefix, ID: p.id, Version: p.config.Version, Started: p.started, Store: p.breakers.shared, Now: p.clock.Now,
		Evidence: p.evidence, HearEvidence: p.registry.HearEvidence,
		Limits: p.config.Backpressure, Host: p.hostLoad, Saturation: p.saturation(), StoreDelay: p.storeDelay, Measured: p.registry.SetShortage, Policies: p.policies.startedWith,
		Gates: p.gates, Limit: p.inFlight, Pullers: pullers, Publish: p.store.Publish, Log: p.log,
	})
	if err != nil {
		return err
	}
	p.life.Cleanup(func() { _ = p.member.Close() })
	return nil
}

// evidence returns what the other instances should hear of the services' health.
func (p *parts) evidence(all bool, now time.Time) []events.ServiceEvidence {
	absent := p.gates.AbsentServices()
	return p.registry.Share(func(service string) bool { return absent[service] }, all, now)
}

// hostLoad returns how busy the host is; until it is measured it counts as idle.
func (p *parts) hostLoad() health.Host {
	if p.config.Host != nil {
		p.registry.SetHost(p.config.Host())
	}
	h, _ := p.registry.Host()
	return h
}

// saturation returns how this process and its cgroup are measured.
func (p *parts) saturation() func(now time.Time) gate.Saturation {
	if p.config.Saturation != nil {
		return func(time.Time) gate.Saturation { return p.config.Saturation() }
	}
	failed := rate.Sometimes{First: 1, Interval: time.Hour}
	note := func(err error) {
		if err != nil {
			failed.Do(func() {
				p.log.Warn("this process is measured in part only; what is missing counts as idle", "error", err)
			})
		}
	}
	own, err := host.NewOwn()
	note(err)
	return func(now time.Time) gate.Saturation {
		s, err := own.Measure(now)
		note(err)
		return s
	}
}

// storeDelay returns the response time of NATS or Redis, whichever is slower.
func (p *parts) storeDelay(now time.Time) time.Duration {
	return max(p.store.Delay(now), p.breakers.group.Delay())
}

// sampler measures the host that the instance runs on.
func (p *parts) sampler() *host.Sampler {
	return &host.Sampler{Measured: p.registry.SetHost, Failed: func(err error) {
		p.log.Warn("the host is measured in part only; what is missing counts as idle", "error", err)
	}}
}

// consume makes the consumers before anything is pulled, so that a missing permission
// fails the start.
func (p *parts) consume(ctx context.Context) error {
	for _, stream := range []string{p.streams.Intake(), p.streams.Waiting()} {
		err := p.waiter.Await(ctx, "the consumers of stream "+stream, func(ctx context.Context) error {
			return p.ensureConsumers(ctx, stream)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// ensureConsumers makes the consumers of a stream, at the start and after it was made
// anew.
func (p *parts) ensureConsumers(ctx context.Context, stream string) error {
	for _, puller := range p.pullers {
		if puller.Stream() != stream {
			continue
		}
		if err := puller.Ensure(ctx); err != nil {
			return err
		}
	}
	return nil
}
