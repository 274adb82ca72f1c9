package handlers_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"
	"github.com/redis/go-redis/v9"

	"github.com/rebound-mq/rebound/breaker/redisstore"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/ledger"
	"github.com/rebound-mq/rebound/internal/ledger/redisledger"
	"github.com/rebound-mq/rebound/internal/redisconn"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/scheduler/gate"
	"github.com/rebound-mq/rebound/schemas"
)

// stores are the stores of shared breakers and limits.
func stores(t *testing.T) map[string]func() handlers.Config {
	return map[string]func() handlers.Config{
		"NATS": func() handlers.Config { return handlers.Config{} },
		"Redis": func() handlers.Config {
			client, err := redisconn.Open(testkit.Redis(t).URL())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = client.Close() })
			return handlers.Config{Breakers: redisstore.New(client, ""), Ledgers: redisledger.New(client, "")}
		},
	}
}

// parallel registers a target that works on several requests at once. Its handler answers
// with Respond: the framework reads a request's error at any time.
func (r *rig) parallel(subject string, handle func(micro.Request)) {
	r.t.Helper()
	service, err := micro.AddService(r.nc, micro.Config{Name: "parallel", Version: "1.0.0"})
	if err != nil {
		r.t.Fatal(err)
	}
	var working sync.WaitGroup
	err = service.AddEndpoint("e", micro.HandlerFunc(func(req micro.Request) {
		working.Go(func() { handle(req) })
	}), micro.WithEndpointSubject(subject))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		_ = service.Stop()
		working.Wait()
	})
}

var (
	wentAlone  = regexp.MustCompile(`msg="budgets and concurrency are divided evenly.* instance=(\S+)`)
	othersSeen = regexp.MustCompile(`msg="the number of instances has changed".* instances=(\d+)`)
)

// aloneShare returns how much of a limit those instances may use beside the others that
// their log says went on without the store: it does not answer in time on a machine that is
// too busy. Each has an even share by the instances that it sees.
func aloneShare(log string, limit, instances int) int {
	alone := make(map[string]bool)
	for _, m := range wentAlone.FindAllStringSubmatch(log, -1) {
		alone[m[1]] = true
	}
	for _, m := range othersSeen.FindAllStringSubmatch(log, -1) {
		n, _ := strconv.Atoi(m[1])
		instances = min(instances, max(n, 1))
	}
	return len(alone) * max(limit/instances, 1)
}

func TestLedger_BudgetHoldsOverAllInstances(t *testing.T) {
	t.Parallel()
	const due, budget, instances = 5000, 200, 3
	for name, config := range stores(t) {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			c := config()
			c.Policies = policySet(t, fmt.Sprintf("default: {maxAttempts: 5, baseDelay: 10ms, jitterType: none, retryBudgetPerMinute: %d}", budget))
			var logged testkit.Buffer
			c.Logger = logger(&logged)
			var mu sync.Mutex
			var at []time.Time
			r.target("pay.charge", func(int, micro.Request) (string, string, micro.Headers) {
				mu.Lock()
				at = append(at, time.Now())
				mu.Unlock()
				return "", "", nil
			})
			var services []*handlers.Service
			for range instances {
				services = append(services, r.start(c))
			}
			r.agree(instances, services...)
			joined := len(logged.String())
			r.submitAll(due, func(i int) (string, map[string]string) {
				return "retry.submit.pay.charge", event(fmt.Sprint(i), "normal")
			})
			attempts := func() int {
				mu.Lock()
				defer mu.Unlock()
				return len(at)
			}
			testkit.Eventually(t, time.Minute, "the budget being spent", func() bool { return attempts() >= budget*9/10 })
			testkit.Eventually(t, 2*time.Minute, "the rest being held", func() bool {
				return r.count("RETRY", "retry.held.>")+attempts() >= due-budget/10
			})
			most := budget + aloneShare(logged.String()[joined:], budget, instances)
			mu.Lock()
			defer mu.Unlock()
			// The earliest attempt of the window that the latest closes.
			worst, first := 0, 0
			for latest := range at {
				for at[latest].Sub(at[first]) >= time.Minute {
					first++
				}
				worst = max(worst, latest-first+1)
			}
			if worst > most {
				t.Errorf("%d attempts were made in a minute, want at most %d", worst, most)
			}
		})
	}
}

// storeFault is what happens to the Redis of three instances.
type storeFault struct {
	// wire returns the URLs by which the instances reach the server, and a function
	// that does the harm.
	wire func(*testing.T, *testkit.RedisServer) (urls []string, harm func())
}

// straight lets all instances reach the server itself.
func straight(harm func(*testkit.RedisServer)) func(*testing.T, *testkit.RedisServer) ([]string, func()) {
	return func(_ *testing.T, s *testkit.RedisServer) ([]string, func()) {
		return []string{s.URL(), s.URL(), s.URL()}, func() { harm(s) }
	}
}

func failedOver(t *testing.T, s *testkit.RedisServer) ([]string, func()) {
	_, sentinel := testkit.Sentinel(t, s)
	url := sentinel.URL() + "?master_name=" + testkit.MasterName
	return []string{url, url, url}, s.Stop
}

func cutOff(t *testing.T, s *testkit.RedisServer) ([]string, func()) {
	wire := testkit.Proxy(t, s.Addr())
	return []string{s.URL(), s.URL(), "redis://" + wire.Addr()}, func() { wire.Cut(); <-time.After(3 * time.Second); wire.Mend() }
}

// knownByAll reports whether n instances have heard of the key's ledger in Redis, so
// that any of them can rebuild it.
func knownByAll(t *testing.T, client redis.UniversalClient, key string, n int) bool {
	t.Helper()
	data, err := client.Get(t.Context(), redisledger.DefaultPrefix+"{"+key+"}").Bytes()
	if errors.Is(err, redis.Nil) {
		return false
	}
	var l gate.Ledger
	if err := errors.Join(err, json.Unmarshal(data, &l)); err != nil {
		t.Fatalf("reading the ledger of %s: %v", key, err)
	}
	heard := 0
	for _, share := range l.Shares {
		if !share.Heard.IsZero() {
			heard++
		}
	}
	return heard == n
}

// TestLedger_BudgetHoldsWhileItsStoreIsOut harms Redis while three instances spend a budget:
// each goes on with at most its own share.
func TestLedger_BudgetHoldsWhileItsStoreIsOut(t *testing.T) {
	t.Parallel()
	const due, first, budget, instances = 600, 30, 90, 3
	for name, fault := range map[string]storeFault{
		"killed and restarted empty":   {straight(func(s *testkit.RedisServer) { s.Stop(); s.Restart() })},
		"flushed":                      {straight((*testkit.RedisServer).Flush)},
		"halted for a while":           {straight(func(s *testkit.RedisServer) { s.Pause(); <-time.After(3 * time.Second); s.Resume() })},
		"gone for good":                {straight((*testkit.RedisServer).Stop)},
		"failed over":                  {failedOver},
		"cut off from one of them all": {cutOff},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testkit.Redis(t)
			urls, harm := fault.wire(t, server)
			r := newRig(t)
			policies := policySet(t, fmt.Sprintf("default: {maxAttempts: 5, baseDelay: 10ms, jitterType: none, retryBudgetPerMinute: %d}", budget))
			var attempts atomic.Int64
			var once sync.Once
			var faulty sync.WaitGroup
			var began time.Time
			known := make(chan struct{})
			r.parallel("pay.charge", func(req micro.Request) {
				once.Do(func() { began = time.Now() })
				if attempts.Add(1) == budget/2 {
					faulty.Go(harm)
				}
				<-known
				_ = req.Respond(nil)
			})
			for _, url := range urls {
				client, err := redisconn.Open(url)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = client.Close() })
				r.start(handlers.Config{Policies: policies, Breakers: redisstore.New(client, ""), Ledgers: redisledger.New(client, "")})
			}
			submitted := 0
			submit := func() {
				r.submit("retry.submit.pay.charge", event(fmt.Sprint(submitted), "normal"), "x")
				submitted++
			}
			// What an instance has in flight keeps its lease renewed.
			looking := redis.NewClient(&redis.Options{Addr: server.Addr()})
			defer looking.Close()
			testkit.Eventually(t, 20*time.Second, "the ledger being known by all instances", func() bool {
				if submitted < first {
					submit()
				}
				return knownByAll(t, looking, "pay:charge", instances)
			})
			close(known)
			for submitted < due {
				submit()
			}
			held := func() int { return r.count("RETRY", "retry.held.>") }
			settled := func() bool { return held()+r.count("RETRY_OUTCOMES", "retry.outcome.>") == due }
			testkit.Eventually(t, 40*time.Second, "the rest being held", func() bool { return attempts.Load() >= budget/2 && settled() })
			faulty.Wait()
			// The instances may share by demand again now.
			testkit.Eventually(t, 20*time.Second, "the rest being held after the fault", func() bool { return settled() })
			most := int64(budget + budget/instances)
			if n, took := attempts.Load(), time.Since(began); n > most && took < time.Minute {
				t.Errorf("%d attempts were made in %s, the budget is %d a minute and a share of an instance %d", n, took, budget, budget/instances)
			}
			testkit.Eventually(t, 30*time.Second, "an outcome for each attempt", func() bool { return int64(len(r.outcomes())) == attempts.Load() })
		})
	}
}

// grants records the leases that instances get of one key.
type grants struct {
	mu  sync.Mutex
	all []grant // guarded by mu
}

// grant is a lease of an instance. Without operations in flight it strands none.
type grant struct {
	instance   string
	given      time.Time
	concurrent int
}

// recording is a store whose leases are recorded.
type recording struct {
	ledger.Store
	grants *grants
}

func (r recording) Renew(ctx context.Context, key string, c gate.Claim, s gate.Settings) (gate.Lease, error) {
	l, err := r.Store.Renew(ctx, key, c, s)
	if err == nil {
		r.grants.mu.Lock()
		defer r.grants.mu.Unlock()
		r.grants.all = append(r.grants.all, grant{c.Instance, l.Given, l.Concurrent})
	}
	return l, err
}

// stranded returns how many operations may have stayed in flight, at most, under leases
// that were over when another instance was given its own. A busy machine renews late.
func (g *grants) stranded() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	slices.SortFunc(g.all, func(a, b grant) int { return a.given.Compare(b.given) })
	last := make(map[string]grant)
	n := 0
	for _, lease := range g.all {
		for instance, other := range last {
			if instance != lease.instance && !other.given.Add(gate.LeaseTime).After(lease.given) {
				n += other.concurrent
				delete(last, instance)
			}
		}
		last[lease.instance] = lease
	}
	return n
}

func TestLedger_ConcurrencyIsBoundedOverAllInstances(t *testing.T) {
	t.Parallel()
	const due, most, instances = 300, 6, 3
	for name, config := range stores(t) {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			var logged testkit.Buffer
			c := config()
			c.Policies = policySet(t, fmt.Sprintf("default: {maxAttempts: 5, baseDelay: 10ms, jitterType: none, maxConcurrentRetries: %d}", most))
			c.Logger = logger(&logged)
			var now, peak atomic.Int64
			r.parallel("pay.charge", func(req micro.Request) {
				n := now.Add(1)
				for p := peak.Load(); n > p && !peak.CompareAndSwap(p, n); p = peak.Load() {
				}
				<-time.After(5 * time.Millisecond)
				now.Add(-1)
				_ = req.Respond(nil)
			})
			var given grants
			var services []*handlers.Service
			for range instances {
				own := c
				if own.Ledgers == nil {
					own.Ledgers = ledger.NewNATS(testkit.JetStream(t, testkit.Connect(t, r.url)), "RETRY_LEDGERS", 1)
				}
				own.Ledgers = recording{own.Ledgers, &given}
				services = append(services, r.start(own))
			}
			r.agree(instances, services...)
			joined := len(logged.String())
			for i := range due {
				r.submit("retry.submit.pay.charge", event(fmt.Sprint(i), "normal"), "x")
			}
			r.awaitOutcomes(due, 60*time.Second)
			r.awaitEmpty()
			allowed := most + given.stranded() + aloneShare(logged.String()[joined:], most, instances)
			if p := int(peak.Load()); p > allowed {
				t.Errorf("%d attempts were in flight at once, want at most %d, of which %d by leases that were renewed late", p, allowed, allowed-most)
			}
		})
	}
}

func TestGates_DependentsOfAnOpenBreakerAreHeldWithoutAnAttempt(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, `
default: {maxAttempts: 5, baseDelay: 10ms, jitterType: none}
ledger: {enableCircuitBreaker: true}
billing: {dependsOn: [ledger]}
report: {dependsOn: ["ledger:read"]}
`)})
	calls := r.target("billing.charge", func(int, micro.Request) (string, string, micro.Headers) { return "", "", nil })
	r.target("report.make", func(int, micro.Request) (string, string, micro.Headers) { return "", "", nil })
	r.act("trip", schemas.BreakerAct{Key: "ledger:write", ForMs: 600_000})
	r.submit("retry.submit.billing.charge", event("1", "normal"), "x")
	r.submit("retry.submit.report.make", event("2", "normal"), "x")
	testkit.Eventually(t, 10*time.Second, "the operation that depends on it being held", func() bool { return r.count("RETRY", "retry.held.*.billing.>") == 1 })
	r.awaitOutcomes(1, 10*time.Second) // of the key that depends on another
	if n := calls.Load(); n != 0 {
		t.Errorf("%d attempts were made while the service below is out, want none", n)
	}
	r.act("reset", schemas.BreakerAct{Key: "ledger:write"})
	r.awaitOutcomes(2, 10*time.Second)
	r.awaitEmpty()
}

func TestLanes_WhatWasParkedDuringAnOutageFollowsEarlyOnceTheTargetIsWell(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, `
default:
  maxAttempts: 50
  baseDelay: 5m
  maxDelay: 10m
  jitterType: none
  attemptTimeout: 1m # one that fails is parked for longer than the test takes
  enableCircuitBreaker: true
  circuitBreakerThreshold: 5
  circuitBreakerTimeout: 1s
`)})
	target, _ := r.switched("pay.charge")
	target.down.Store(true)
	const parked = 200
	for i := range parked {
		e := event(fmt.Sprint(i), "normal")
		r.submit("retry.submit.pay.charge", e, "x")
	}
	asked := event("asked", "normal")
	asked["ce-retryafter"] = "600"
	r.submit("retry.submit.pay.charge", asked, "x")
	testkit.Eventually(t, 20*time.Second, "all being parked", func() bool { return r.count("RETRY", "retry.parked.>") == parked+1 })
	r.act("trip", schemas.BreakerAct{Key: "pay:charge", ForMs: 500})
	target.down.Store(false)
	// Probes that succeed close the breaker.
	for i := range 10 {
		e := event(fmt.Sprintf("probe-%d", i), "high")
		e["ce-retryafter"] = "0.6"
		e["ce-basedelay"] = "10ms"
		r.submit("retry.submit.pay.charge", e, "x")
	}
	r.awaitOutcomes(parked+10, 60*time.Second)
	if n := r.count("RETRY", "retry.parked.>"); n != 1 {
		t.Errorf("%d operations are parked, want the one whose target asked for its delay", n)
	}
}
