package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// instance is a member with its gates and its limit.
type instance struct {
	*Member
	nc        *nats.Conn
	stop      func()
	pressure  atomic.Bool
	instances atomic.Int64
	limit     atomic.Int64
	shared    atomic.Int64
	announced atomic.Int64
	markers   atomic.Int64
	// failing counts the services that fail.
	failing *atomic.Int64
}

func (i *instance) SetInstances(n int)          { i.instances.Store(int64(n)) }
func (i *instance) SetPressure(on bool)         { i.pressure.Store(on) }
func (i *instance) Active() int                 { return 0 }
func (i *instance) Counts(time.Time) (s, f int) { return 0, 0 }
func (i *instance) Services(time.Time) (all []events.ServiceAttempts) {
	for n := range i.failing.Load() {
		all = append(all, events.ServiceAttempts{Service: events.ServiceHash(n + 1), Failed: 10})
	}
	return all
}
func (i *instance) Most() int                          { return 1000 }
func (i *instance) Set(n, shared int)                  { i.limit.Store(int64(n)); i.shared.Store(int64(shared)) }
func (i *instance) host() health.Host                  { return health.Host{} }
func (i *instance) storeDelay(time.Time) time.Duration { return 0 }
func (i *instance) sees() int                          { return i.View(i.config.Now()).TotalInstances }
func (i *instance) leads() bool                        { _, ok := i.Leads(); return ok }

// join lets an instance of that id join the others on a server. All see the same services
// fail. A change is made before it runs.
func join(t *testing.T, url, id string, failing *atomic.Int64, change ...func(*Member)) *instance {
	t.Helper()
	i := prepare(t, url, id, failing)
	for _, f := range change {
		f(i.Member)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { i.Run(ctx) })
	i.stop = func() { cancel(); running.Wait() }
	t.Cleanup(i.stop)
	return i
}

// prepare is join without running the instance.
func prepare(t *testing.T, url, id string, failing *atomic.Int64) *instance {
	t.Helper()
	i := &instance{nc: testkit.Connect(t, url), failing: failing}
	var err error
	i.Member, err = Join(i.nc, Config{
		Prefix: "retry", ID: id, Version: "1", Started: time.Now(), Now: time.Now,
		Evidence:     func(bool, time.Time) []events.ServiceEvidence { return nil },
		HearEvidence: func(string, []events.ServiceEvidence, time.Time) {},
		Host:         i.host, Saturation: func(time.Time) gate.Saturation { return gate.Saturation{} }, StoreDelay: i.storeDelay, Measured: func(health.Shortage) {}, Policies: func() string { return "" }, Gates: i, Limit: i,
		Publish: func(context.Context, string, *nats.Msg) error { i.announced.Add(1); return nil },
		Log:     slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestMember_LowestIDLeadsAndItsSuccessorGoesOn(t *testing.T) {
	t.Parallel()
	url := testkit.Server(t).ClientURL()
	var failing atomic.Int64
	b := join(t, url, "b", &failing)
	if b.leads() || !b.NoOtherLeads() {
		t.Error("an instance that joins leads, or knows a leader")
	}
	testkit.Eventually(t, 5*time.Second, "the only instance to lead", b.leads)
	a := join(t, url, "a", &failing)
	testkit.Eventually(t, 5*time.Second, "the lower id to lead", func() bool { return a.leads() && !b.leads() && !b.NoOtherLeads() })
	if n := b.instances.Load(); n != 2 {
		t.Errorf("the gates know of %d instances, want 2", n)
	}

	failing.Store(3)
	testkit.Eventually(t, 5*time.Second, "backpressure at both", func() bool { return a.pressure.Load() && b.pressure.Load() })
	a.stop()
	testkit.Eventually(t, 5*time.Second, "the one that stopped to be forgotten", func() bool { return b.sees() == 1 })
	if !b.leads() || !b.pressure.Load() {
		t.Error("the successor does not lead, or backpressure ended with the leader")
	}
	testkit.Eventually(t, 5*time.Second, "the change to be announced", func() bool { return a.announced.Load() == 1 })
	if n := b.announced.Load(); n != 0 {
		t.Errorf("the successor announced %d changes, want none", n)
	}
	failing.Store(0)
	testkit.Eventually(t, 15*time.Second, "the successor to end it", func() bool { return !b.pressure.Load() && b.announced.Load() == 1 })
}

func TestMember_OneThatHearsNobodyForgetsNobody(t *testing.T) {
	t.Parallel()
	url := testkit.Server(t).ClientURL()
	var failing atomic.Int64
	a, b := join(t, url, "a", &failing), join(t, url, "b", &failing)
	testkit.Eventually(t, 5*time.Second, "the lower id to lead", func() bool { return a.leads() && b.sees() == 2 && !b.leads() })
	a.nc.Close()
	testkit.Eventually(t, 2*health.InstanceLease, "the other to lead once the lease is over", b.leads)
	// Nothing reaches a, so it must not consider itself the only one.
	if n, leads := a.Leads(); n != 2 || !leads {
		t.Errorf("the instance that hears nobody knows of %d and leads: %t; want both it knew, and that it still leads", n, leads)
	}
}

// silent makes a member report itself only when it joins, answers and leaves, and use the
// clock of the test.
func silent(now func() time.Time) func(*Member) {
	return func(m *Member) { m.period, m.config.Now = time.Hour, now }
}

func TestMember_SaysWhyBackpressureIsOn(t *testing.T) {
	t.Parallel()
	var failing atomic.Int64
	now := &clock{base: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	i := prepare(t, testkit.Server(t).ClientURL(), "b", &failing)
	i.config.Now = now.now
	failing.Store(3)
	for _, c := range []struct {
		cause gate.PressureCause
		want  string
	}{
		{"", ""},
		{gate.PressureFailures, "most services fail (3 of 3) since 2026-03-01T12:00:00Z; each key that fails too has one attempt a second until that ends"},
		{gate.PressureActive, "too many attempts are in flight (0) since 2026-03-01T12:00:00Z; new ones go as others end"},
		{gate.PressureStore, "NATS or Redis answers slowly (in 0 ms) since 2026-03-01T12:00:00Z; instances take less until that ends"},
	} {
		i.mu.Lock()
		i.Member.pressure = gate.Pressure{On: c.cause != "", Cause: c.cause, Since: now.now()}
		i.mu.Unlock()
		if got := i.PressureProblem(); got != c.want {
			t.Errorf("with the cause %q the problem is %q, want %q", c.cause, got, c.want)
		}
	}
}

// clock is a clock that stands still until it is set forward.
type clock struct {
	base  time.Time
	ahead atomic.Int64
}

func (c *clock) now() time.Time           { return c.base.Add(time.Duration(c.ahead.Load())) }
func (c *clock) forward(by time.Duration) { c.ahead.Add(int64(by)) }

func TestMember_OneThatJoinsIsAnsweredAndOneThatLeavesIsForgottenAtOnce(t *testing.T) {
	t.Parallel()
	url := testkit.Server(t).ClientURL()
	var failing atomic.Int64
	still := silent((&clock{base: time.Now()}).now)
	a := join(t, url, "a", &failing, still)
	b := join(t, url, "b", &failing, still)
	// No report of its own accord comes for an hour.
	testkit.Eventually(t, 30*time.Second, "both to know each other", func() bool { return a.sees() == 2 && b.sees() == 2 })
	c := join(t, url, "c", &failing, still)
	testkit.Eventually(t, 30*time.Second, "the third to know both", func() bool { return a.sees() == 3 && b.sees() == 3 && c.sees() == 3 })
	// No lease ends while the clock stands still.
	b.stop()
	testkit.Eventually(t, 30*time.Second, "the one that stopped to be forgotten", func() bool { return a.sees() == 2 && c.sees() == 2 })
}

// echo makes a member hear a report of its own, and waits until it has.
func (i *instance) echo(t *testing.T) {
	t.Helper()
	i.mu.Lock()
	own := i.reportLocked(i.config.Now())
	i.mu.Unlock()
	i.hears(t, own)
	// Reports are heard in order.
	marker := serving(fmt.Sprint("marker", i.markers.Add(1)))
	i.hears(t, marker)
	testkit.Eventually(t, 10*time.Second, "the report to be heard", func() bool { return i.knows(marker.ID) })
	marker.State = events.InstanceLeaving
	i.hears(t, marker)
	testkit.Eventually(t, 10*time.Second, "the marker to have left", func() bool { return !i.knows(marker.ID) })
}

// serve makes a member serve that reports nothing of its own accord.
func (i *instance) serve(t *testing.T) {
	t.Helper()
	i.mu.Lock()
	i.state = events.InstanceServing
	i.mu.Unlock()
	i.echo(t)
}

// hears publishes a report.
func (i *instance) hears(t *testing.T, r events.InstanceReport) {
	t.Helper()
	m, err := wire.EncodeInstance(i.subjects, &r)
	if err == nil {
		err = i.nc.PublishMsg(m)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func serving(id string) events.InstanceReport {
	return events.InstanceReport{ID: id, State: events.InstanceServing, Started: time.Now()}
}

func (i *instance) knows(id string) bool {
	_, ok := i.View(i.config.Now()).InstanceRetryLoad[id]
	return ok
}

// heardMs returns how long ago the instance was heard, by the clock.
func (i *instance) heardMs(id string) float64 {
	for _, other := range i.View(i.config.Now()).Instances {
		if other.ID == id {
			return other.HeardMs
		}
	}
	return -1
}

func TestMember_OneThatIsKilledIsForgottenAfterItsLease(t *testing.T) {
	t.Parallel()
	url := testkit.Server(t).ClientURL()
	var failing atomic.Int64
	now := &clock{base: time.Now()}
	a, b := join(t, url, "a", &failing, silent(now.now)), join(t, url, "b", &failing, silent(now.now))
	testkit.Eventually(t, 30*time.Second, "both to know each other", func() bool { return a.sees() == 2 && b.sees() == 2 })
	a.nc.Close()
	for _, c := range []struct {
		forward time.Duration
		knows   bool
	}{{time.Second, true}, {time.Second, true}, {health.InstanceLease - 2*time.Second - 1, true}, {1, false}} {
		now.forward(c.forward)
		b.echo(t)
		if got := b.knows("a"); got != c.knows {
			t.Errorf("%v after the one that was killed was heard the other knows it: %t, want %t", time.Duration(now.ahead.Load()), got, c.knows)
		}
	}
}

func TestMember_OneThatIsStarvedDoesNotTakeItselfForAlone(t *testing.T) {
	t.Parallel()
	url := testkit.Server(t).ClientURL()
	var failing atomic.Int64
	now := &clock{base: time.Now()}
	a, b := join(t, url, "a", &failing, silent(now.now)), join(t, url, "b", &failing, silent(now.now))
	testkit.Eventually(t, 30*time.Second, "both to know each other", func() bool { return a.sees() == 2 && b.sees() == 2 })
	a.serve(t)
	b.serve(t)
	testkit.Eventually(t, 30*time.Second, "the lower id to lead", func() bool { return a.leads() && !b.leads() })
	for _, late := range []time.Duration{4 * time.Second, time.Minute} {
		now.forward(late)
		if !b.knows("a") || b.leads() {
			t.Errorf("%v without CPU later it knows the other: %t, and leads: %t; want it known and leading", late, b.knows("a"), b.leads())
		}
		b.echo(t) // its own report comes first
		if !b.knows("a") || b.leads() {
			t.Errorf("%v without CPU later, its own report heard, it knows the other: %t, and leads: %t; want it known and leading", late, b.knows("a"), b.leads())
		}
		a.echo(t)
		testkit.Eventually(t, 10*time.Second, "the other to be heard again", func() bool { return b.heardMs("a") == 0 })
	}
}

func TestMember_LeaderAdoptsWhatWasDecidedWhileItWasNotHeard(t *testing.T) {
	t.Parallel()
	url := testkit.Server(t).ClientURL()
	var failing atomic.Int64
	now := &clock{base: time.Now()}
	a := join(t, url, "a", &failing, silent(now.now))
	a.serve(t)
	b := serving("b")
	b.Backpressure = events.Backpressure{On: true, Cause: string(gate.PressureFailures), Since: now.now()}
	a.hears(t, b)
	testkit.Eventually(t, 10*time.Second, "the leader to adopt that it is on", a.pressure.Load)
	b.Backpressure = events.Backpressure{Since: now.now().Add(-time.Minute)}
	a.hears(t, b)
	a.echo(t)
	if !a.pressure.Load() || !a.leads() {
		t.Errorf("after an earlier change was heard backpressure is on: %t, and the lower id leads: %t; want both", a.pressure.Load(), a.leads())
	}
	if n := a.announced.Load(); n != 0 {
		t.Errorf("the leader announced %d changes that it did not decide, want none", n)
	}
}

// puller has a number of operations in hand and has handled others.
type puller struct {
	unacked int
	handled uint64
}

func (p *puller) Name() string                         { return "due" }
func (p *puller) Unacked() int                         { return p.unacked }
func (p *puller) Handled() uint64                      { return p.handled }
func (p *puller) Delivered() (time.Time, uint64)       { return time.Time{}, 0 }
func (p *puller) DeliveredElsewhere(time.Time, uint64) {}

func TestMember_TakesLessWhileItCannotKeepUp(t *testing.T) {
	t.Parallel()
	var failing atomic.Int64
	i := prepare(t, testkit.Server(t).ClientURL(), "b", &failing)
	due, saturation := &puller{unacked: 400, handled: 5000}, gate.Saturation{}
	i.config.Pullers = []Puller{due}
	i.config.Saturation = func(time.Time) gate.Saturation { return saturation }
	now := i.config.Now()
	tick := func(seconds int) {
		for range seconds {
			now = now.Add(time.Second)
			due.handled += 5000
			i.tick(t.Context(), now)
		}
	}
	check := func(when string, limit, shared int64, by string) {
		t.Helper()
		all := i.View(now).Instances
		c := all[len(all)-1].Capacity // its id is the last
		if got := i.shared.Load(); got != shared {
			t.Errorf("%s the keys share %d, want %d", when, got, shared)
		}
		if got := i.limit.Load(); got != limit || c.InHandLimit != int(limit) || c.LimitedBy != by {
			t.Errorf("%s the limit is %d, reported as %+v, want %d because of %q", when, got, c, limit, by)
		}
	}
	tick(1)
	check("in peace", 1000, 1000, "")
	saturation.Memory = 0.95
	tick(1)
	check("when memory is almost used up", 280, 280, "memory")
	if got, want := i.PressureProblem(), "the instance's cgroup uses 95% of its memory limit, so the instance has at most 280 due operations in hand"; got != want {
		t.Errorf("the problem is %q, want %q", got, want)
	}
	saturation = gate.Saturation{SchedulerDelay: time.Second, CPUPressure: 1}
	tick(20)
	check("alone, however starved,", 1000, 1000, "")
	// Now there is another instance that waits for nothing.
	other := serving("a")
	other.InHand = 600
	if _, err := i.register.Heard(other, now); err != nil {
		t.Fatal(err)
	}
	tick(1)
	check("beside an instance that keeps up", 64, 1000, "overload")
	saturation.Memory = 0.95
	due.unacked = 10
	tick(9)
	check("with both", 64, 64, "overload")
	saturation = gate.Saturation{}
	tick(60)
	check("in peace again", 1000, 1000, "")
}
