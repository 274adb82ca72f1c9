package handlers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"golang.org/x/time/rate"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/internal/natsconn"
	"github.com/rebound-mq/rebound/internal/opstore"
	"github.com/rebound-mq/rebound/internal/pull"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/scheduler/gate"
	"github.com/rebound-mq/rebound/schemas"
)

const (
	// reportEvery is how often an instance tells the others of itself, and
	// answerEvery how often at most it answers those that join.
	reportEvery = time.Second
	answerEvery = 100 * time.Millisecond
	// deafAfter is how long an instance may not hear its own reports before it
	// knows that it can hear nobody.
	deafAfter = 3 * reportEvery / 2
	// maxWaitingInstances is how many reports wait to be read; what is more is
	// dropped, for a newer report follows.
	maxWaitingInstances = 4 * health.MaxInstances
	leaveTimeout        = time.Second
)

// coordinator knows the instances and has this one act on what they have in
// common: it tells the others of it, follows or decides global backpressure, and
// has it take its share of the work.
//
// Backpressure is decided by one instance, the one with the lowest id, by the
// measures of all; the others take over what it reports, so that all agree. One
// that has just started decides nothing until it knows what was decided before.
type coordinator struct {
	self     events.InstanceReport // what never changes of it
	nc       *nats.Conn
	subjects events.Subjects
	log      *slog.Logger
	warn     rate.Sometimes
	limits   gate.Limits
	host     func() health.Host
	dues     []*pull.Puller
	breakers *breakers
	store    *opstore.Store
	clock    *natsconn.Clock
	gates    *scheduler.Gates
	inFlight *pull.Limit

	sub     *nats.Subscription
	reports chan *nats.Msg
	// refused counts the reports that were not taken.
	refused atomic.Uint64

	mu       sync.Mutex // guards what follows
	register *health.Register
	pressure gate.Pressure
	state    events.InstanceState

	// What follows is of the goroutine of run.
	published time.Time
	echoed    time.Time // when our own report was heard last
	instances int
	telling   sync.WaitGroup
	told      chan struct{} // closed when the last event is told; nil before the first

	// policies names those that the instance was started with, empty while others are
	// in force.
	policies func() string
	// differing says that another instance was started with others; a string.
	differing atomic.Value
}

// newCoordinator returns the coordinator of the service, whose due operations come
// through the pullers dues.
func (s *Service) newCoordinator(st *opstore.Store, dues []*pull.Puller) (*coordinator, error) {
	c := &coordinator{
		self: events.InstanceReport{ID: s.id, HostName: hostName(s.log), Version: s.config.Version, Started: s.started.UTC()},
		nc:   s.nc, subjects: s.subjects, log: s.log, warn: rate.Sometimes{First: 1, Interval: warnEvery},
		limits: s.config.Backpressure, host: s.config.Host, dues: dues, breakers: s.breakers, store: st, clock: s.clock,
		gates: s.gates, inFlight: s.inFlight, policies: s.follower.startedWith, reports: make(chan *nats.Msg, maxWaitingInstances), state: events.InstanceJoining, instances: 1,
	}
	if c.host == nil {
		c.host = func() health.Host {
			h, _ := s.registry.Host() // idle until it is measured
			return h
		}
	} else {
		c.host = func() health.Host {
			h := s.config.Host()
			s.registry.SetHost(h)
			return h
		}
	}
	now := c.clock.Now()
	report := c.report(now)
	if _, err := wire.EncodeInstance(c.subjects, &report); err != nil {
		return nil, fmt.Errorf("telling the other instances of this one: %w", err)
	}
	c.register = health.NewRegister(s.config.Prefix, report, now)
	return c, nil
}

// hostName returns the name of the host, empty when it has none.
func hostName(log *slog.Logger) string {
	name, err := os.Hostname()
	if err != nil {
		log.Debug("the host has no name", "error", err)
	}
	const most = 255
	name = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, name)
	return strings.ToValidUTF8(name[:min(len(name), most)], "")
}

// hear subscribes to what the instances report.
func (c *coordinator) hear() error {
	sub, err := c.nc.ChanSubscribe(c.subjects.Instances(), c.reports)
	if err != nil {
		return fmt.Errorf("subscribing to the reports of the other instances: %w", err)
	}
	c.sub = sub
	return nil
}

// run keeps this instance and the others informed of each other until ctx ends,
// and then takes leave of them.
func (c *coordinator) run(ctx context.Context) {
	defer c.telling.Wait()
	ticker := time.NewTicker(reportEvery)
	defer ticker.Stop()
	answer := time.NewTimer(0) // the first report asks the others for theirs
	defer answer.Stop()
	c.echoed = c.clock.Now()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case m := <-c.reports:
			if c.take(m, c.clock.Now()) {
				answer.Reset(max(answerEvery-c.clock.Now().Sub(c.published), 0))
			}
		case <-answer.C:
			c.publish(c.clock.Now())
		case <-ticker.C:
			c.tick(ctx, c.clock.Now())
		}
	}
	c.leave()
}

// take takes over the report of an instance. It returns whether to answer it.
func (c *coordinator) take(m *nats.Msg, now time.Time) (answer bool) {
	r, err := wire.DecodeInstance(c.subjects, m)
	news := false
	if err == nil {
		c.mu.Lock()
		if r.State == events.InstanceLeaving {
			news = c.register.Left(r.ID)
		} else {
			news, err = c.register.Heard(r, now)
		}
		if err == nil {
			c.follow(now)
			c.hearDelivered(r.Delivered)
		}
		c.mu.Unlock()
	}
	switch {
	case errors.Is(err, health.ErrOwnReport):
		c.echoed = now
	case err != nil:
		refused := c.refused.Add(1)
		c.log.Debug("a report of an instance was refused", "subject", m.Subject, "error", err)
		c.warn.Do(func() {
			c.log.Warn("reports of other instances are refused", "refused", refused, "error", err)
		})
	case news:
		c.act(c.view(now))
	}
	return err == nil && r.State == events.InstanceJoining
}

// hearDelivered takes over what consumers have delivered to another instance. None of
// it comes for the first time any more.
func (c *coordinator) hearDelivered(delivered []events.Delivered) {
	for _, d := range delivered {
		for _, p := range c.dues {
			if p.Name() == d.Consumer {
				p.DeliveredElsewhere(d.Made, d.Sequence)
			}
		}
	}
}

// follow takes over the backpressure of the instance that decides, unless this is
// the one. The caller has the lock.
func (c *coordinator) follow(now time.Time) {
	d, ok := c.register.Decider(now)
	if !ok || d.ID == c.self.ID {
		return
	}
	p := gate.Pressure{On: d.Backpressure.On, Cause: gate.PressureCause(d.Backpressure.Cause), Since: d.Backpressure.Since}
	if p.Since.After(now) {
		p.Since = now // by our clock; whoever decides next must be able to end it
	}
	c.turn(p, d.ID)
}

// turn puts backpressure in force and returns whether it turned on or off. The
// caller has the lock.
func (c *coordinator) turn(p gate.Pressure, by string) (changed bool) {
	changed = p.On != c.pressure.On
	c.pressure = p
	if !changed {
		return false
	}
	c.gates.SetPressure(p.On)
	if p.On {
		c.log.Warn("global backpressure is on", "cause", p.Cause, "since", p.Since, "by", by)
	} else {
		c.log.Info("global backpressure is off", "by", by)
	}
	return true
}

// tick does what is done every second.
func (c *coordinator) tick(ctx context.Context, now time.Time) {
	c.mu.Lock()
	if now.Sub(c.echoed) > deafAfter {
		c.register.Deaf(now) // the connection is lost, or this process was halted
	}
	c.state = events.InstanceServing
	c.mu.Unlock()
	v := c.view(now)
	if change, changed := c.decide(v, now); changed {
		c.tell(ctx, change)
	}
	c.publish(now)
	c.comparePolicies(v)
	if c.act(v); v.TotalInstances != c.instances {
		c.instances = v.TotalInstances
		c.log.Info("the number of instances has changed", "instances", c.instances)
	}
}

// decide decides on backpressure by the measures of all instances, if it is this
// one that does. The event is to be told when it changed.
func (c *coordinator) decide(v health.Coordination, now time.Time) (e events.BackpressureChange, changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.follow(now) // the one that decided until now may be gone
	if d, ok := c.register.Decider(now); !ok || d.ID != c.self.ID {
		return e, false
	}
	p, _ := c.pressure.Step(gate.Measures{
		Active: v.ActiveRetries, FailureRate: v.GlobalFailureRate, Samples: v.Samples,
		Load: v.SystemLoad, StoreDelay: events.Milliseconds(v.StoreDelayMs),
	}, c.limits, now)
	if !c.turn(p, c.self.ID) {
		return e, false
	}
	return events.BackpressureChange{
		Backpressure: backpressure(p), By: c.self.ID, Instances: v.TotalInstances, ActiveRetries: v.ActiveRetries,
		FailureRate: v.GlobalFailureRate, Samples: v.Samples, SystemLoad: v.SystemLoad, StoreDelayMs: v.StoreDelayMs,
	}, true
}

// decides tells whether this instance is the one that decides for all. While nobody
// is known to, each does.
func (c *coordinator) decides() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, ok := c.register.Decider(c.clock.Now())
	return !ok || d.ID == c.self.ID
}

// leads reports whether this instance is the one that decides, and how many there
// are.
func (c *coordinator) leads(now time.Time) (instances int, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, ok := c.register.Decider(now)
	return c.register.Len(), ok && d.ID == c.self.ID
}

// act has this instance take its share.
func (c *coordinator) act(v health.Coordination) {
	c.gates.SetInstances(v.TotalInstances)
	c.inFlight.Set(v.InHandLimit(c.self.ID, c.inFlight.Most()))
}

// view returns the instances as they are known, with fresh figures of this one.
func (c *coordinator) view(now time.Time) health.Coordination {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.register.Own(c.report(now), now)
	return c.register.View(now, backpressure(c.pressure), c.pressure.EndsIn(now))
}

// report returns what is to be told of this instance. The caller has the lock,
// unless the coordinator is just being made.
func (c *coordinator) report(now time.Time) events.InstanceReport {
	r := c.self
	r.State = c.state
	r.InFlight = c.gates.Active()
	for _, p := range c.dues {
		r.InHand += p.Unacked()
		if made, sequence := p.Delivered(); sequence > 0 {
			r.Delivered = append(r.Delivered, events.Delivered{Consumer: p.Name(), Made: made, Sequence: sequence})
		}
	}
	r.Succeeded, r.Failed = c.gates.Counts(now)
	h := c.host()
	r.CPUUtilization, r.MemoryUtilization = figure(h.CPUUtilization, 100), figure(h.MemoryUtilization, 100)
	r.SystemLoad = figure(h.SystemLoad, events.MaxInstanceFigure)
	r.StoreDelayMs = events.InMilliseconds(max(c.store.Delay(now), c.breakers.group.Delay()))
	r.Backpressure = backpressure(c.pressure)
	r.Policies = c.policies()
	return r
}

// figure keeps what was measured between 0 and most, and makes what is no number 0.
func figure(v, most float64) float64 {
	if !(v > 0) {
		return 0
	}
	return min(v, most)
}

func backpressure(p gate.Pressure) events.Backpressure {
	b := events.Backpressure{On: p.On, Since: p.Since.UTC()}
	if p.On {
		b.Cause = string(p.Cause)
	}
	return b
}

// publish tells the others of this instance.
func (c *coordinator) publish(now time.Time) {
	c.mu.Lock()
	r := c.report(now)
	c.mu.Unlock()
	c.published = now
	m, err := wire.EncodeInstance(c.subjects, &r)
	if err == nil {
		err = c.nc.PublishMsg(m)
	}
	if err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		c.warn.Do(func() { c.log.Warn("the other instances could not be told of this one", "error", err) })
	}
}

// leave takes leave of the others, which would otherwise count on this instance
// until its lease is over.
func (c *coordinator) leave() {
	err := c.sub.Unsubscribe()
	if !c.nc.IsConnected() {
		return
	}
	c.mu.Lock()
	c.state = events.InstanceLeaving
	c.mu.Unlock()
	c.publish(c.clock.Now())
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	if err = errors.Join(err, c.nc.FlushWithContext(ctx)); err != nil {
		c.log.Debug("the other instances may not know yet that this one has stopped", "error", err)
	}
}

// tell publishes that backpressure changed, after the changes before it.
func (c *coordinator) tell(ctx context.Context, e events.BackpressureChange) {
	before, told := c.told, make(chan struct{})
	c.told = told
	c.telling.Go(func() {
		defer close(told)
		if before != nil {
			<-before
		}
		err := c.publishChange(ctx, e)
		if err != nil && ctx.Err() != nil {
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), streams.CallTimeout)
			defer cancel()
			err = c.publishChange(last, e)
		}
		if err != nil {
			c.log.Error("a change of global backpressure could not be told", "on", e.On, "error", err)
		}
	})
}

func (c *coordinator) publishChange(ctx context.Context, e events.BackpressureChange) error {
	m, err := wire.EncodeBackpressure(c.subjects, &e)
	if err != nil {
		return err
	}
	return c.store.Publish(ctx, "telling of global backpressure", m)
}

// Coordination returns how the instances are, as this one sees them.
func (s *Service) Coordination() health.Coordination { return s.coordinator.view(s.clock.Now()) }

// coordination answers how the instances are.
func (s *Service) coordination(context.Context, micro.Request) (any, error) {
	return schemas.Coordination{Instance: s.id, Coordination: s.Coordination(), Sharing: s.breakers.coordination()}, nil
}

// comparePolicies notices when instances go by different policy files, which happens
// while none are applied to all.
func (c *coordinator) comparePolicies(v health.Coordination) {
	own, problem := c.policies(), ""
	for _, i := range v.Instances {
		if own != "" && i.Policies != "" && i.Policies != own {
			problem = fmt.Sprintf("this instance was started with the policies %s, instance %s with %s, and none are applied to all; `rebound policy apply` does that",
				own, i.ID, i.Policies)
			break
		}
	}
	if was, _ := c.differing.Swap(problem).(string); was == problem {
		return
	}
	if problem != "" {
		c.log.Warn("instances decide by different policies", "problem", problem)
	} else {
		c.log.Info("instances decide by the same policies")
	}
}

// policyProblem says that instances go by different policy files, empty when not.
func (c *coordinator) policyProblem() string {
	problem, _ := c.differing.Load().(string)
	return problem
}
