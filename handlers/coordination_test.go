package handlers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/scheduler/gate"
	"github.com/rebound-mq/rebound/schemas"
)

// agree waits until each of the services sees n instances.
func (r *rig) agree(n int, services ...*handlers.Service) {
	r.t.Helper()
	testkit.Eventually(r.t, 10*time.Second, fmt.Sprintf("each instance sees %d", n), func() bool {
		for _, s := range services {
			if len(s.Coordination().Instances) != n {
				return false
			}
		}
		return true
	})
}

// idle is a host with nothing to do, and calm and starved are instances that wait for nothing
// and for CPU, so that tests do not depend on what else runs.
func idle() health.Host { return health.Host{} }

func calm() gate.Saturation { return gate.Saturation{} }

func starved() gate.Saturation { return gate.Saturation{SchedulerDelay: 200 * time.Millisecond} }

func TestCluster_InstancesKnowEachOther(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, b := r.start(handlers.Config{Host: idle, Saturation: calm, Version: "1.2.3"}), r.start(handlers.Config{Host: idle, Saturation: calm})
	r.agree(2, a, b)
	c := r.start(handlers.Config{Saturation: starved, Host: func() health.Host {
		return health.Host{CPUUtilization: 75, MemoryUtilization: 50, SystemLoad: 2}
	}})
	r.agree(3, a, b, c)
	v := a.Coordination()
	for _, i := range v.Instances {
		switch {
		case i.Started.IsZero() || i.HeardMs < 0 || i.HeardMs > 3000:
			t.Errorf("instance %s is %+v, want its start and one heard lately", i.ID, i)
		case i.ID == a.ID() && i.Version != "1.2.3":
			t.Errorf("the version of the first is %q, want 1.2.3", i.Version)
		case i.ID == c.ID() && (i.CPUUtilization != 75 || i.MemoryUtilization != 50 || i.SystemLoad != 2):
			t.Errorf("the third is reported as %+v, want its host's figures", i)
		}
	}
	testkit.Eventually(t, 10*time.Second, "a smaller share of the third, which is starved", func() bool {
		share := a.Coordination().RecommendedDistribution
		return share[c.ID()] < share[a.ID()]
	})
	var answer json.RawMessage
	if code, text := r.request("rebound.coordination", nil, nil, &answer); code != "" {
		t.Fatalf("asking for the coordination: %s %s", code, text)
	}
	if err := schemas.Validate("coordination.response", answer); err != nil {
		t.Errorf("the answer breaks its schema: %v\n%s", err, answer)
	}
	var shown schemas.Coordination
	if err := json.Unmarshal(answer, &shown); err != nil || shown.TotalInstances != 3 || shown.Instance == "" || !shown.Sharing.Shared {
		t.Errorf("the answer is %s, %v, want three instances that share their breakers", answer, err)
	}
}

// startOn runs an instance on a connection of its own that the test may close. It may
// fail to stop.
func (r *rig) startOn(c handlers.Config) (*handlers.Service, *nats.Conn) {
	r.t.Helper()
	return r.startAt(r.url, c)
}

// startAt is startOn with another URL.
func (r *rig) startAt(url string, c handlers.Config) (*handlers.Service, *nats.Conn) {
	r.t.Helper()
	c.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	if c.Backpressure == (gate.Limits{}) {
		c.Backpressure = unhindered
	}
	nc := testkit.Connect(r.t, url)
	s, err := handlers.Start(r.t.Context(), nc, c)
	if err != nil {
		r.t.Fatalf("starting the service: %v", err)
	}
	r.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = s.Stop(ctx) // its connection may be closed
	})
	return s, nc
}

func TestCluster_InstanceThatIsKilledIsForgottenAfterItsLease(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, b := r.start(handlers.Config{Host: idle}), r.start(handlers.Config{Host: idle})
	killed, nc := r.startOn(handlers.Config{Host: idle})
	r.agree(3, a, b, killed)
	nc.Close()
	r.agree(2, a, b)
	if v := killed.Coordination(); v.TotalInstances != 3 {
		t.Errorf("the instance that is cut off sees %d, want the 3 that it knew: it is the one that cannot hear", v.TotalInstances)
	}
}

func TestCluster_InstanceThatIsCutOffComesBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	wire := testkit.Proxy(t, strings.TrimPrefix(r.url, "nats://"))
	a := r.start(handlers.Config{Host: idle})
	b, _ := r.startAt("nats://"+wire.Addr(), handlers.Config{Host: idle})
	r.agree(2, a, b)
	wire.Cut()
	r.agree(1, a)
	<-time.After(2 * time.Second)
	if n := b.Coordination().TotalInstances; n != 2 {
		t.Errorf("the instance that is cut off sees %d, want 2: it hears nobody, not even itself, and so knows nothing of the other's end", n)
	}
	wire.Mend()
	r.agree(2, a, b)
}

func TestPressure_SlowServerIsEverybodysProblemOnlyIfItIsSlowForAll(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	wire := testkit.Proxy(t, strings.TrimPrefix(r.url, "nats://"))
	limits := gate.Limits{StoreDelay: 300 * time.Millisecond}
	slow, _ := r.startAt("nats://"+wire.Addr(), handlers.Config{Host: idle, Backpressure: limits})
	wire.Slow(500 * time.Millisecond)
	testkit.Eventually(t, 30*time.Second, "backpressure", func() bool { return slow.Coordination().GlobalBackpressure })
	if v := slow.Coordination(); v.Backpressure.Cause != "store_slow" || v.StoreDelayMs < 300 {
		t.Errorf("with a slow server the view is %+v, want the slow store as its cause", v)
	}
	quick := r.start(handlers.Config{Host: idle, Backpressure: limits})
	r.agree(2, slow, quick)
	testkit.Eventually(t, 20*time.Second, "no backpressure at either", func() bool {
		return !slow.Coordination().GlobalBackpressure && !quick.Coordination().GlobalBackpressure
	})
	share := quick.Coordination().RecommendedDistribution
	if share[slow.ID()] >= share[quick.ID()] {
		t.Errorf("the distribution is %v, want less for %s, which is far from its server", share, slow.ID())
	}
}

func TestCluster_InstanceThatStopsTakesLeave(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.start(handlers.Config{Host: idle})
	b, _ := r.startOn(handlers.Config{Host: idle})
	r.agree(2, a, b)
	reports := r.overhear(events.Subjects{}.Instances())
	if err := b.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	for others := 0; ; {
		m, err := reports.NextMsg(10 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		report, err := wire.DecodeInstance(events.Subjects{}, m)
		if err != nil {
			t.Fatal(err)
		}
		if report.ID == b.ID() && report.State == events.InstanceLeaving {
			break
		}
		if report.ID == a.ID() {
			others++
		}
		if others == 30 {
			t.Fatal("the instance that stopped has not said so")
		}
	}
	r.agree(1, a)
}

// fleetPolicy is a policy without a breaker and with short delays, so that only backpressure
// holds anything.
const fleetPolicy = `default: {maxAttempts: 100, baseDelay: 50ms, maxDelay: 50ms, jitterType: none, attemptTimeout: 10s, enableCircuitBreaker: false}`

func TestPressure_TurnsOnWhenMostServicesFail(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var log [2]lockedBuilder
	var services []*handlers.Service
	for i := range log {
		services = append(services, r.start(handlers.Config{
			Host: idle, Logger: slog.New(slog.NewTextHandler(&log[i], nil)), Policies: policySet(t, fleetPolicy),
		}))
	}
	r.agree(2, services...)
	var down atomic.Bool
	down.Store(true)
	for i := range 4 {
		r.target(fmt.Sprintf("failing%d.call", i), func(int, micro.Request) (string, string, micro.Headers) {
			if down.Load() {
				return "503", "the database is down", nil
			}
			return "", "", nil
		})
	}
	r.target("well.call", func(int, micro.Request) (string, string, micro.Headers) { return "", "", nil })
	submit := func(from, to int) {
		for i := from; i < to; i++ {
			for n := range 4 {
				r.submit(fmt.Sprintf("retry.submit.failing%d.call", n), event(fmt.Sprint(n, "-", i), "normal"), "x")
			}
			r.submit("retry.submit.well.call", event(fmt.Sprint("well-", i), "normal"), "x")
		}
	}
	submit(0, 10)
	testkit.Eventually(t, 20*time.Second, "backpressure at both instances", func() bool {
		return services[0].Coordination().GlobalBackpressure && services[1].Coordination().GlobalBackpressure
	})
	v := services[0].Coordination()
	if v.Backpressure.Cause != "failure_rate" || v.VotingServices != 5 || v.FailingServices != 4 || v.CoordinatedDelay < 1000 || v.CoordinatedDelay > 5000 {
		t.Errorf("with backpressure the view is %+v, want four of five services failing and a delay of 1 to 5 s", v)
	}
	r.announcedOnce(log[:], true)
	r.joinsUnderPressure(services[0])

	// The failing keys are held and keep a trickle; the one that succeeds passes untouched.
	submit(10, 20)
	testkit.Eventually(t, 20*time.Second, "all operations of the service that is well", func() bool {
		return r.count("RETRY_OUTCOMES", "retry.outcome.retrySuccess.well.call") == 20
	})
	testkit.Eventually(t, 20*time.Second, "held operations of the services that fail", func() bool {
		return r.count("RETRY", "retry.held.*.*.call.>") > 0
	})
	if n := r.count("RETRY", "retry.held.*.well.call.>"); n > 0 {
		t.Errorf("%d operations of the service that is well are held, want none", n)
	}
	down.Store(false)
	r.awaitOutcomes(100, 30*time.Second)
	testkit.Eventually(t, 20*time.Second, "the end of backpressure at both", func() bool {
		return !services[0].Coordination().GlobalBackpressure && !services[1].Coordination().GlobalBackpressure
	})
}

func TestPressure_OneFailingServiceIsNobodyElsesBusiness(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	// Without its breaker the service goes on failing all the time.
	config := handlers.Config{Host: idle, Saturation: calm, Policies: policySet(t, `default: {enableCircuitBreaker: false, baseDelay: 200ms, maxDelay: 200ms, jitterType: none}`)}
	a, b := r.start(config), r.start(config)
	r.agree(2, a, b)
	r.target("failing.call", func(int, micro.Request) (string, string, micro.Headers) { return "503", "down", nil })
	r.target("well.call", func(int, micro.Request) (string, string, micro.Headers) { return "", "", nil })
	const n = 150
	ticker := time.NewTicker(time.Second / 30)
	defer ticker.Stop()
	for i := range n {
		<-ticker.C
		for _, service := range []string{"failing", "well"} {
			r.submit("retry.submit."+service+".call", event(fmt.Sprint(service, i), "normal"), "x")
		}
	}
	testkit.Eventually(t, 20*time.Second, "all operations of the service that is well", func() bool {
		return r.count("RETRY_OUTCOMES", "retry.outcome.retrySuccess.well.call") == n
	})
	if v := a.Coordination(); v.FailingServices > 1 || v.VotingServices > 2 {
		t.Errorf("%d of %d services fail, want 1 of 2 at most", v.FailingServices, v.VotingServices)
	}
	if changes := r.messages("RETRY_OUTCOMES", "retry.event.backpressureChanged.rebound.all"); len(changes) > 0 {
		t.Errorf("backpressure changed, %s, want it off throughout", changes[0].Data)
	}
}

// announcedOnce insists that the first change of backpressure was published once and logged
// once by each instance.
func (r *rig) announcedOnce(logs []lockedBuilder, on bool) {
	r.t.Helper()
	const subject = "retry.event.backpressureChanged.rebound.all"
	testkit.Eventually(r.t, 10*time.Second, "the event", func() bool { return r.count("RETRY_OUTCOMES", subject) > 0 })
	// Every instance has reported by now.
	<-time.After(1500 * time.Millisecond)
	changes := r.messages("RETRY_OUTCOMES", subject)
	if len(changes) != 1 {
		r.t.Fatalf("that backpressure changed is published %d times, want once", len(changes))
	}
	r.validChange(changes[0], on, "failure_rate")
	for i := range logs {
		if n := strings.Count(logs[i].String(), "global backpressure is on"); n != 1 {
			r.t.Errorf("instance %d logs %d times that backpressure is on, want once:\n%s", i, n, logs[i].String())
		}
	}
}

// joinsUnderPressure insists that an instance that joins knows of backpressure at once.
func (r *rig) joinsUnderPressure(one *handlers.Service) {
	r.t.Helper()
	late, _ := r.startOn(handlers.Config{Host: idle, Policies: policySet(r.t, fleetPolicy)})
	testkit.Eventually(r.t, 10*time.Second, "backpressure at the one that joins", func() bool { return late.Coordination().GlobalBackpressure })
	var status schemas.Status
	if code, text := r.request("rebound.status", nil, nil, &status); code != "" || !status.RetryCoordination.GlobalBackpressure {
		r.t.Errorf("the status is %s %s %+v, want backpressure in it", code, text, status.RetryCoordination)
	}
	var answer schemas.Health
	// The service that is well votes for as long as its last attempts are recent.
	if code, text := r.request("rebound.health", nil, nil, &answer); code != "" || !strings.Contains(strings.Join(answer.Warnings, "\n"), "most services fail (4 of ") {
		r.t.Errorf("the warnings are %s %s %q, want the services that fail among them", code, text, answer.Warnings)
	}
	if err := late.Stop(r.t.Context()); err != nil {
		r.t.Errorf("stopping the one that joined: %v", err)
	}
	testkit.Eventually(r.t, 10*time.Second, "it to be forgotten", func() bool { return one.Coordination().TotalInstances == 2 })
}

// validChange insists that a message is a valid event of backpressure.
func (r *rig) validChange(m *jetstream.RawStreamMsg, on bool, cause string) {
	r.t.Helper()
	if err := schemas.Validate(m.Header.Get("ce-type"), m.Data); err != nil || m.Header.Get("ce-type") != events.EventType(events.BackpressureChanged) {
		r.t.Errorf("the event of type %s breaks its schema: %v\n%s", m.Header.Get("ce-type"), err, m.Data)
	}
	var e events.BackpressureChange
	if err := json.Unmarshal(m.Data, &e); err != nil || e.On != on || e.Cause != cause {
		r.t.Errorf("the event is %s, %v, want on %t by %q", m.Data, err, on, cause)
	}
}

// hang registers a target that answers nothing until the returned function is called, and
// lets n operations come due there.
func (r *rig) hang(n int) (release func()) {
	r.t.Helper()
	held := make(chan struct{})
	release = sync.OnceFunc(func() { close(held) })
	sub, err := r.nc.Subscribe("pay.charge", func(m *nats.Msg) {
		go func() { <-held; _ = m.Respond(nil) }()
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		release()
		_ = sub.Unsubscribe()
	})
	for i := range n {
		r.submit("retry.submit.pay.charge", event(fmt.Sprint(i), "normal"), "x")
	}
	return release
}

func TestPressure_IsAnnouncedWhenItTurnsOff(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	config := handlers.Config{Host: idle, Backpressure: gate.Limits{StoreDelay: time.Minute, Active: 10}, Policies: policySet(t, `default: {attemptTimeout: 1m}`)}
	a, b := r.start(config), r.start(config)
	r.agree(2, a, b)
	const subject = "retry.event.backpressureChanged.rebound.all"
	release := r.hang(20)
	testkit.Eventually(t, 10*time.Second, "the event that it is on", func() bool { return r.count("RETRY_OUTCOMES", subject) == 1 })
	release()
	testkit.Eventually(t, 20*time.Second, "the event that it is off", func() bool { return r.count("RETRY_OUTCOMES", subject) == 2 })
	testkit.Eventually(t, 10*time.Second, "both instances without backpressure", func() bool {
		return !a.Coordination().GlobalBackpressure && !b.Coordination().GlobalBackpressure
	})
	changes := r.messages("RETRY_OUTCOMES", subject)
	r.validChange(changes[0], true, "active_retries")
	r.validChange(changes[1], false, "")
	if delay := a.Coordination().CoordinatedDelay; delay != 0 {
		t.Errorf("without backpressure the coordinated delay is %v, want 0", delay)
	}
}

func TestPressure_OutlivesTheInstanceThatDecidedOnIt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	wire := testkit.Proxy(t, strings.TrimPrefix(r.url, "nats://"))
	config := handlers.Config{Host: idle, Backpressure: gate.Limits{StoreDelay: 300 * time.Millisecond}}
	first, _ := r.startAt("nats://"+wire.Addr(), config)
	second, _ := r.startAt("nats://"+wire.Addr(), config)
	r.agree(2, first, second)
	if second.ID() < first.ID() {
		first, second = second, first
	}
	wire.Slow(500 * time.Millisecond)
	testkit.Eventually(t, 30*time.Second, "backpressure at both", func() bool {
		return first.Coordination().GlobalBackpressure && second.Coordination().GlobalBackpressure
	})
	if err := first.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.agree(1, second)
	<-time.After(1500 * time.Millisecond)
	if !second.Coordination().GlobalBackpressure {
		t.Error("backpressure ended with the instance that decided on it, though its cause goes on")
	}
	if n := r.count("RETRY_OUTCOMES", "retry.event.backpressureChanged.rebound.all"); n != 1 {
		t.Errorf("that backpressure is on is published %d times, want once", n)
	}
}

func TestCluster_OverloadedInstancePullsLess(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	policies := policySet(t, `default: {maxAttempts: 3, baseDelay: 10ms, jitterType: none, attemptTimeout: 10m, enableCircuitBreaker: false}`)
	// The limits keep backpressure from interfering. Load of the host, whose CPU others burn,
	// is no matter.
	limits := gate.Limits{StoreDelay: time.Minute}
	loaded := func() health.Host { return health.Host{CPUUtilization: 100, SystemLoad: 6} }
	well := r.start(handlers.Config{Host: loaded, Saturation: calm, Policies: policies, Backpressure: limits})
	ill := r.start(handlers.Config{Host: idle, Saturation: starved, Policies: policies, Backpressure: limits})
	r.agree(2, well, ill)
	var share map[string]float64
	testkit.Eventually(t, 20*time.Second, "a small share of the overloaded instance", func() bool {
		share = well.Coordination().RecommendedDistribution
		return share[ill.ID()] > 0 && share[ill.ID()] <= 0.1
	})
	// Pulls that began before the limit was lowered end by themselves.
	<-time.After(6 * time.Second)
	release := make(chan struct{})
	sub, err := r.nc.Subscribe("pay.charge", func(m *nats.Msg) {
		go func() { <-release; _ = m.Respond(nil) }()
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	const n = 600
	for i := range n {
		r.submit("retry.submit.pay.charge", event(fmt.Sprint(i), "normal"), "x")
	}
	inHand := func(id string) int {
		for _, i := range well.Coordination().Instances {
			if i.ID == id {
				return i.InHand
			}
		}
		return 0
	}
	testkit.Eventually(t, 20*time.Second, "all operations to be in hand", func() bool { return inHand(well.ID())+inHand(ill.ID()) >= n })
	for _, i := range ill.Coordination().Instances {
		if wants := map[string]string{well.ID(): "", ill.ID(): "overload"}[i.ID]; i.LimitedBy != wants || i.InHandLimit == 0 || i.HeardMs > 3000 {
			t.Errorf("an instance is shown as %+v, want a limit by %q", i, wants)
		}
	}
	got := inHand(ill.ID())
	close(release)
	// 1.5 times a share of 0.07 are the 64 that it always may have; an even share is 300.
	if got > n/4 {
		t.Errorf("the overloaded instance has %d of %d operations in hand, want hardly more than its share, %.0f", got, n, share[ill.ID()]*n)
	}
	t.Logf("the overloaded instance has %d of %d in hand, with a share of %.3f", got, n, share[ill.ID()])
	if got == 0 {
		t.Error("the overloaded instance takes nothing at all")
	}
	r.awaitOutcomes(n, 30*time.Second)
}

func TestCluster_FalseReportsOfInstancesAreRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var log lockedBuilder
	s := r.start(handlers.Config{Host: idle, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	good := events.InstanceReport{ID: "z", State: events.InstanceServing, Started: time.Now()}
	for range 3 {
		for subject, data := range map[string]string{
			"retry.instance.x": "", "retry.instance.y": `{"id":"z","state":"serving","version":"","started":"2026-03-01T12:00:00Z"}`,
			"retry.instance.-": `{}`, "retry.instance.w": strings.Repeat("[", 10_000),
		} {
			r.report(subject, data)
		}
	}
	for i := range 2 * health.MaxInstances {
		flood := good
		flood.ID = fmt.Sprint("z", i)
		m, err := wire.EncodeInstance(events.Subjects{}, &flood)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.nc.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, 10*time.Second, "as many instances as may be", func() bool { return s.Coordination().TotalInstances == health.MaxInstances })
	if n := s.Coordination().TotalInstances; n > health.MaxInstances {
		t.Errorf("there are %d instances, want at most %d", n, health.MaxInstances)
	}
	if _, known := s.Coordination().InstanceRetryLoad[s.ID()]; !known {
		t.Error("the instance itself was pushed out")
	}
	r.agree(1, s)
	if n := strings.Count(log.String(), "reports of other instances are refused"); n != 1 {
		t.Errorf("the log has refused reports %d times, want once:\n%s", n, log.String())
	}
}

func TestCluster_WhatWasDeliveredToAnotherInstanceIsARepeatHere(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(handlers.Config{Host: idle})
	var attempts, repeats atomic.Int64
	r.target("billing.charge", func(_ int, req micro.Request) (string, string, micro.Headers) {
		attempts.Add(1)
		if req.Headers().Get(events.HeaderRepeated) == "true" {
			repeats.Add(1)
		}
		return "", "", nil
	})
	r.submit("retry.submit.billing.charge", map[string]string{"ce-errorcode": "timeout"}, `{}`)
	r.awaitOutcomes(1, 10*time.Second)
	if got := repeats.Load(); got != 0 {
		t.Fatalf("%d of %d attempts are repeats, want none while nobody else has anything", got, attempts.Load())
	}
	consumer, err := r.js.Consumer(t.Context(), "RETRY", "rebound-due-normal")
	if err != nil {
		t.Fatal(err)
	}
	// The other instance has more in hand than the consumer's new leader knows.
	r.instance(events.InstanceReport{
		ID: "other", State: events.InstanceServing, Version: "1", Started: time.Now(),
		Delivered: []events.Delivered{{Consumer: "rebound-due-normal", Made: consumer.CachedInfo().Created, Sequence: 1000}},
	})
	testkit.Eventually(t, 20*time.Second, "an attempt that is marked as a repeat", func() bool {
		n := attempts.Load()
		r.submit("retry.submit.billing.charge", map[string]string{"ce-errorcode": "timeout"}, `{}`)
		testkit.Eventually(t, 10*time.Second, "the attempt", func() bool { return attempts.Load() > n })
		return repeats.Load() > 0
	})
}
