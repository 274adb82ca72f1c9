package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/time/rate"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

const (
	// reportEvery is how often an instance reports itself to the others, and answerEvery
	// how often at most it answers joining instances.
	reportEvery = time.Second
	answerEvery = 100 * time.Millisecond
	// maxWaiting is how many reports may wait to be read; more are dropped, because newer
	// ones follow.
	maxWaiting = 4 * health.MaxInstances
	// leaveTimeout bounds how long announcing that this instance stops may take.
	leaveTimeout = time.Second
	// warnEvery is how often a warning is repeated.
	warnEvery = time.Minute
)

// Gates are the gates of this instance.
type Gates interface {
	// SetInstances and SetPressure set how many instances there are and whether failing
	// keys are slowed to a trickle.
	SetInstances(n int)
	SetPressure(on bool)
	// Active returns how many attempts are in flight, Counts how many of the last minute
	// succeeded and failed, and Services the recent ones of each service.
	Active() int
	Counts(now time.Time) (succeeded, failed int)
	Services(now time.Time) []events.ServiceAttempts
}

// Limit is the in-flight limit of this instance, up to Most.
type Limit interface {
	Most() int
	// Set limits the operations in hand to n, of which the keys share as if they were shared.
	Set(n, shared int)
}

// Puller pulls the due operations of one consumer, which all instances share.
type Puller interface {
	// Name returns the consumer's name.
	Name() string
	// Unacked returns how many operations are in hand.
	Unacked() int
	// Handled returns how many have left the instance's hand since it started.
	Handled() uint64
	// Delivered returns when the consumer was made and the latest sequence that it has
	// delivered here. DeliveredElsewhere records the latest that it has delivered to
	// another instance: up to it, no delivery is the first.
	Delivered() (made time.Time, sequence uint64)
	DeliveredElsewhere(made time.Time, sequence uint64)
}

// Config is what a [Member] needs besides its connection. All of it is required.
type Config struct {
	// Prefix is the first token of every subject.
	Prefix string
	// ID, Version and Started describe this instance.
	ID, Version string
	Started     time.Time
	// Store names where this instance shares breakers and limits.
	Store string
	// Now is the server's time.
	Now func() time.Time
	// Limits say when global backpressure turns on and when this instance takes less.
	Limits gate.Limits
	// Host returns how busy the host is, Saturation how far the instance uses up what is its
	// own, and StoreDelay how long the slowest store takes to answer.
	Host       func() health.Host
	Saturation func(now time.Time) gate.Saturation
	StoreDelay func(now time.Time) time.Duration
	// Measured takes what this instance lacks, every second.
	Measured func(health.Shortage)
	// Policies names the policies that the instance was started with, and is empty while
	// others are in force.
	Policies func() string
	// Evidence returns what this instance measured at services and the others have not heard, or,
	// if all, may not have; HearEvidence takes in that of another instance.
	Evidence     func(all bool, now time.Time) []events.ServiceEvidence
	HearEvidence func(instance string, evidence []events.ServiceEvidence, now time.Time)
	// Gates, Limit and Pullers belong to this instance.
	Gates   Gates
	Limit   Limit
	Pullers []Puller
	// Publish stores an event, retrying until ctx ends.
	Publish func(ctx context.Context, doing string, m *nats.Msg) error
	Log     *slog.Logger
}

// Member is this instance's membership. Its methods are safe for concurrent use.
type Member struct {
	config   Config
	self     events.InstanceReport // the constant part of its report
	subjects events.Subjects
	nc       *nats.Conn
	sub      *nats.Subscription
	reports  chan *nats.Msg
	warn     rate.Sometimes
	refused  atomic.Uint64 // counts the reports that were refused
	// differing says that another instance was started with other policies.
	differing atomic.Value  // a string
	period    time.Duration // [reportEvery], except in a test

	mu       sync.Mutex // guards the fields below
	register *health.Register
	pressure gate.Pressure
	capacity capacity
	state    events.InstanceState

	// The fields below belong to the goroutine of Run.
	published time.Time
	instances int
	announcer announcer
}

// Join makes this instance a member and subscribes to the reports of the others. Reports
// are read, and this instance is reported, while [Member.Run] runs.
func Join(nc *nats.Conn, config Config) (*Member, error) {
	config.Limits = config.Limits.OrDefaults()
	m := &Member{
		config: config, nc: nc, subjects: events.Subjects{Prefix: config.Prefix},
		self:    events.InstanceReport{ID: config.ID, HostName: hostName(config.Log), Version: config.Version, Started: config.Started.UTC(), Store: config.Store},
		reports: make(chan *nats.Msg, maxWaiting), warn: rate.Sometimes{First: 1, Interval: warnEvery},
		period: reportEvery, state: events.InstanceJoining, instances: 1,
		capacity: capacity{warn: rate.Sometimes{First: 1, Interval: warnEvery}},
	}
	now := config.Now()
	own := m.reportLocked(now)
	if _, err := wire.EncodeInstance(m.subjects, &own); err != nil {
		return nil, fmt.Errorf("reporting this instance to the others: %w", err)
	}
	m.register = health.NewRegister(config.Prefix, own, now)
	var err error
	if m.sub, err = nc.ChanSubscribe(m.subjects.Instances(), m.reports); err != nil {
		return nil, fmt.Errorf("subscribing to the reports of the other instances: %w", err)
	}
	return m, nil
}

// Close ends the subscription of a member that never ran.
func (m *Member) Close() error { return m.sub.Unsubscribe() }

// Run keeps this instance and the others informed of each other until ctx ends, and then
// announces that it leaves.
func (m *Member) Run(ctx context.Context) {
	defer m.announcer.wait()
	ticker := time.NewTicker(m.period)
	defer ticker.Stop()
	answer := time.NewTimer(0) // the first report asks the others for theirs
	defer answer.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case r := <-m.reports:
			if m.hear(r, m.config.Now()) {
				answer.Reset(max(answerEvery-m.config.Now().Sub(m.published), 0))
			}
		case <-answer.C:
			m.publish(true, m.config.Now())
		case <-ticker.C:
			m.tick(ctx, m.config.Now())
		}
	}
	m.leave()
}

// tick does what is done every second.
func (m *Member) tick(ctx context.Context, now time.Time) {
	m.mu.Lock()
	m.state = events.InstanceServing
	m.mu.Unlock()
	m.measure(now)
	v := m.View(now)
	if change, changed := m.decide(v, now); changed {
		m.announce(ctx, change)
	}
	m.throttle(v, now)
	m.takeShare(v)
	m.publish(false, now)
	m.comparePolicies(v)
	if v.TotalInstances != m.instances {
		m.instances = v.TotalInstances
		m.config.Log.Info("the number of instances has changed", "instances", m.instances)
	}
}

// View returns the instances as known at now, with fresh figures of this one.
func (m *Member) View(now time.Time) health.Coordination {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.register.Own(m.reportLocked(now), now)
	v := m.register.View(now, reported(m.pressure), m.pressure.EndsIn(now))
	v.VotingServices, v.FailingServices = gate.CountVotes(v.Services, m.config.Limits.FailureShare)
	return v
}

// Leads reports whether this instance is the leader, and how many instances there are.
func (m *Member) Leads() (instances int, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	leader, ok := m.register.Leader()
	return m.register.Len(), ok && leader.ID == m.self.ID
}

// NoOtherLeads reports whether no other instance is known to be the leader.
func (m *Member) NoOtherLeads() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	leader, ok := m.register.Leader()
	return !ok || leader.ID == m.self.ID
}

// comparePolicies notices instances with different policy files, which is possible while
// none are applied to all.
func (m *Member) comparePolicies(v health.Coordination) {
	own, problem := m.config.Policies(), ""
	for _, i := range v.Instances {
		if own != "" && i.Policies != "" && i.Policies != own {
			problem = fmt.Sprintf("this instance was started with the policies %s, instance %s with %s, and none are applied to all; `rebound policy apply` does that",
				own, i.ID, i.Policies)
			break
		}
	}
	if was, _ := m.differing.Swap(problem).(string); was == problem {
		return
	}
	if problem != "" {
		m.config.Log.Warn("instances decide by different policies", "problem", problem)
	} else {
		m.config.Log.Info("instances decide by the same policies")
	}
}

// PolicyProblem says that instances have different policy files, and is empty if they do
// not.
func (m *Member) PolicyProblem() string {
	problem, _ := m.differing.Load().(string)
	return problem
}

// leave announces that this instance leaves; the others would otherwise count on it until
// its lease is over.
func (m *Member) leave() {
	err := m.sub.Unsubscribe()
	if !m.nc.IsConnected() {
		return
	}
	m.mu.Lock()
	m.state = events.InstanceLeaving
	m.mu.Unlock()
	m.publish(true, m.config.Now())
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	if err = errors.Join(err, m.nc.FlushWithContext(ctx)); err != nil {
		m.config.Log.Debug("the other instances may not know yet that this one has stopped", "error", err)
	}
}
