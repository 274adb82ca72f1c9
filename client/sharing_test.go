package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/redis/go-redis/v9"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/breaker/redisstore"
	"github.com/rebound-mq/rebound/client"
	"github.com/rebound-mq/rebound/client/redisstores"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/ledger/redisledger"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/scheduler/gate"
	"github.com/rebound-mq/rebound/schemas"
)

// sharedPolicies are policies of keys whose breakers stay open, budgets stay spent and delays are
// short.
const sharedPolicies = `
default:
  maxAttempts: 4
  baseDelay: 1ms
  maxDelay: 2s
  backoffStrategy: fixed
  jitterType: none
  attemptTimeout: 2s
  enableAdaptiveBackoff: false
  enableCircuitBreaker: false
guarded:
  enableCircuitBreaker: true
  circuitBreakerThreshold: 3
  circuitBreakerTimeout: 10m
  maxAttempts: 200
  baseDelay: 10ms
budgeted:
  retryBudgetPerHour: 5
lent:
  retryBudgetPerHour: 5
  maxDelay: 25s
patient:
  maxAttempts: 100
narrow:
  maxConcurrentRetries: 2
  maxDelay: 10s
`

// admin sends a request to the service.
func (r *rig) admin(endpoint, request string, answer any) {
	r.t.Helper()
	m, err := r.nc.RequestWithContext(ctx(r.t), "rebound."+endpoint, []byte(request))
	if err == nil {
		err = client.ErrorFromReply(m)
	}
	if err == nil && answer != nil {
		err = json.Unmarshal(m.Data, answer)
	}
	if err != nil {
		r.t.Fatalf("rebound.%s %s: %v", endpoint, request, err)
	}
}

// act has an operator act on a breaker, again if the service could not reach the store meanwhile:
// what one instance does alone others do not know, and it is undone if theirs is worse.
func (r *rig) act(what, request string) {
	r.t.Helper()
	testkit.Eventually(r.t, patience, "all instances knowing of the "+what, func() bool {
		var acted schemas.BreakerActed
		r.admin("breaker."+what, request, &acted)
		return !acted.ThisInstanceOnly
	})
}

// awaitHeld waits until the service holds operations of a key for a cause.
func (r *rig) awaitHeld(key string, cause gate.Cause) {
	r.t.Helper()
	testkit.Eventually(r.t, patience, fmt.Sprintf("%s being held by %s", key, cause), func() bool {
		var status schemas.Status
		r.admin("status", "", &status)
		for _, g := range status.Gates {
			if g.Key == key && g.Shut && g.Cause == cause && status.Held > 0 {
				return true
			}
		}
		return false
	})
}

// fail calls Execute with a function that fails until an error of a kind comes, and returns it.
func fail(t *testing.T, c *client.Client, call *client.Call, kind error) error {
	t.Helper()
	return executeUntil(t, c, call, errBusy, fmt.Sprintf("Execute being refused with %v", kind), func(err error) bool { return errors.Is(err, kind) })
}

// succeed calls Execute until it succeeds.
func succeed(t *testing.T, c *client.Client, call *client.Call) {
	t.Helper()
	executeUntil(t, c, call, nil, "Execute going on", func(err error) bool { return err == nil })
}

// executeUntil calls Execute with a function that gives result, until Execute's error is the awaited
// one, which it returns. If that never comes it logs what client and service know.
func executeUntil(t *testing.T, c *client.Client, call *client.Call, result error, what string, awaited func(error) bool) error {
	t.Helper()
	var last error
	came := false
	defer func() {
		if !came {
			circuits, err := c.Breakers(ctx(t))
			t.Logf("Execute gives %v; the client shares %+v; the service knows the breakers %+v (%v)", last, c.Sharing(), circuits, err)
		}
	}()
	testkit.Eventually(t, patience, what, func() bool {
		_, last = client.Execute(ctx(t), c, call, func(context.Context) (int, error) { return 1, result })
		came = awaited(last)
		return came
	})
	return last
}

func TestSharing_FailuresOfExecuteHoldWhatTheServiceHas(t *testing.T) {
	t.Parallel()
	r := newRig(t, sharedPolicies)
	changes, err := r.nc.SubscribeSync("retry.event.breakerChanged.guarded.charge")
	if err != nil {
		t.Fatal(err)
	}
	var reached atomic.Int64
	r.worker(client.WorkerConfig{Service: "guarded", Operation: "charge"}, func(context.Context, *client.Request) error {
		reached.Add(1)
		return nil
	})
	// It comes due while the breaker is open.
	retryAfter := client.RetryAfter(errBusy, 3*time.Second)
	if _, err := r.Submit(ctx(t), client.Submission{Service: "guarded", Operation: "charge", Err: retryAfter}); err != nil {
		t.Fatal(err)
	}
	call := &client.Call{Service: "guarded", Operation: "charge"}
	fn, calls := failing(always, errBusy)
	// The store opens the breaker, so a few attempts may follow the third.
	if _, err := client.Execute(ctx(t), r.Client, call, fn); !errors.Is(err, client.ErrBreakerOpen) || calls.Load() < 3 || calls.Load() > 100 {
		t.Fatalf("got %v after %d calls, want the breaker to open after 3", err, calls.Load())
	}
	m, err := changes.NextMsgWithContext(ctx(t))
	if err != nil || !bytes.Contains(m.Data, []byte(`"to":"OPEN"`)) {
		t.Errorf("the event of the breaker is %v, %v, want that it opened", m, err)
	}
	r.awaitHeld("guarded:charge", gate.CauseBreaker)
	if n := reached.Load(); n != 0 {
		t.Errorf("%d attempts were made by the service, want it to obey the breaker", n)
	}
	r.act("reset", `{"key":"guarded:charge"}`)
	r.outcomes(1, client.OutcomeFilter{Service: "guarded"})
	succeed(t, r.Client, call)
}

func TestSharing_FailuresInTheServiceStopExecute(t *testing.T) {
	t.Parallel()
	r := newRig(t, sharedPolicies)
	call := &client.Call{Service: "guarded", Operation: "charge"}
	succeed(t, r.Client, call)
	r.worker(client.WorkerConfig{Service: "guarded", Operation: "charge"}, func(context.Context, *client.Request) error { return errBusy })
	if _, err := r.Submit(ctx(t), client.Submission{Service: "guarded", Operation: "charge", Err: errBusy}); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, patience, "the service opening the breaker", func() bool {
		circuits, err := r.Breakers(ctx(t))
		return err == nil && len(circuits) == 1 && circuits[0].State == breaker.Open
	})
	var open *client.BreakerOpenError
	if err := fail(t, r.Client, call, client.ErrBreakerOpen); !errors.As(err, &open) || open.Attempts != 0 || time.Until(open.RetryAt) < time.Minute {
		t.Errorf("the error is %+v, want no attempt before the breaker's timeout is over", open)
	}
	// A client that comes later knows before its first attempt, and a key that is first used later.
	fn, calls := failing(0, nil)
	late := connected(t, client.Config{Conn: r.nc, Policies: policySet(t, sharedPolicies)})
	if _, err := client.Execute(ctx(t), late, &client.Call{Service: "guarded", Operation: "charge"}, fn); !errors.Is(err, client.ErrBreakerOpen) || calls.Load() != 0 {
		t.Errorf("a client that came later got %v after %d calls, want it refused before the first", err, calls.Load())
	}
	r.act("hold", `{"key":"plain:later"}`)
	if _, err := client.Execute(ctx(t), late, &client.Call{Service: "plain", Operation: "later"}, fn); !errors.Is(err, client.ErrBreakerOpen) || calls.Load() != 0 {
		t.Errorf("a key that was used later got %v after %d calls, want it refused before the first", err, calls.Load())
	}
}

func TestSharing_OperatorsWordCountsInExecute(t *testing.T) {
	t.Parallel()
	r := newRig(t, sharedPolicies)
	for name, c := range map[string]struct {
		service   string
		stop, end func()
		want      error
	}{
		"a trip": {"tripped", func() { r.act("trip", `{"key":"tripped:charge","forMs":3600000}`) }, func() { r.act("reset", `{"key":"tripped:charge"}`) }, client.ErrBreakerOpen},
		"a hold": {"held", func() { r.act("hold", `{"key":"held:charge"}`) }, func() { r.act("reset", `{"key":"held:charge"}`) }, client.ErrBreakerOpen},
		"a pause": {"paused", func() {
			if _, err := r.Pause(ctx(t), "paused", client.PauseOptions{For: time.Hour}); err != nil {
				t.Fatal(err)
			}
		}, func() {
			if _, err := r.Resume(ctx(t), "paused", client.PauseOptions{}); err != nil {
				t.Fatal(err)
			}
		}, client.ErrPaused},
	} {
		t.Run(name, func(t *testing.T) {
			call := &client.Call{Service: c.service, Operation: "charge"}
			succeed(t, r.Client, call)
			c.stop()
			err := fail(t, r.Client, call, c.want)
			var paused *client.PausedError
			if errors.As(err, &paused) && (time.Until(paused.Until) < 50*time.Minute || paused.Key != "paused:charge") {
				t.Errorf("the error is %+v, want one that says until when", paused)
			}
			other := &client.Call{Service: "other", Operation: "charge"}
			if got, err := client.Execute(ctx(t), r.Client, other, func(context.Context) (int, error) { return 7, nil }); got != 7 || err != nil {
				t.Errorf("another key got %d, %v, want it to go on", got, err)
			}
			c.end()
			succeed(t, r.Client, call)
		})
	}
}

func TestSharing_BudgetIsSpentTogether(t *testing.T) {
	t.Parallel()
	r := newRig(t, sharedPolicies)
	var redelivered, retried atomic.Int64
	r.worker(client.WorkerConfig{Service: "budgeted", Operation: "charge"}, func(context.Context, *client.Request) error {
		redelivered.Add(1)
		return nil
	})
	call := &client.Call{Service: "budgeted", Operation: "charge"}
	retry := func() error {
		_, err := client.Execute(ctx(t), r.Client, call, func(c context.Context) (int, error) {
			if client.AttemptFrom(c) > 1 {
				retried.Add(1)
				return 1, nil
			}
			return 0, errBusy
		})
		return err
	}
	// The first lease may have all that is left, and gives back what is not used.
	if err := retry(); err != nil {
		t.Fatalf("the first retry: %v", err)
	}
	for i := range 3 {
		if _, err := r.Submit(ctx(t), client.Submission{Service: "budgeted", Operation: "charge", EventID: fmt.Sprint(i), Err: errBusy}); err != nil {
			t.Fatal(err)
		}
	}
	r.outcomes(4, client.OutcomeFilter{Service: "budgeted", Name: events.RetrySuccess}) // Execute's is the first
	if n := redelivered.Load(); n != 3 {
		t.Fatalf("the service made %d redeliveries, want 3", n)
	}
	testkit.Eventually(t, patience, "the last of the budget", func() bool { return retry() == nil })
	var limited *client.RateLimitedError
	for range 10 {
		if err := retry(); !errors.As(err, &limited) || limited.Limit != "retryBudgetPerHour" {
			t.Fatalf("with the budget spent got %v, want a RateLimitedError", err)
		}
	}
	if _, err := r.Submit(ctx(t), client.Submission{Service: "budgeted", Operation: "charge", EventID: "last", Err: errBusy}); err != nil {
		t.Fatal(err)
	}
	r.awaitHeld("budgeted:charge", gate.CauseBudgetPerHour)
	if n := redelivered.Load() + retried.Load(); n != 5 {
		t.Errorf("%d retries were made, %d of them in the service, want the 5 of the budget", n, redelivered.Load())
	}
}

func TestSharing_RetryWaitsForABudgetThatAnotherGivesBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, sharedPolicies)
	other := connected(t, client.Config{Conn: r.nc, Policies: policySet(t, sharedPolicies)})
	// The first lease has all of it.
	for _, c := range []*client.Client{r.Client, other} {
		fn, _ := failing(1, errBusy)
		if got, err := client.Execute(ctx(t), c, &client.Call{Service: "lent", Operation: "charge"}, fn); got != 2 || err != nil {
			t.Errorf("with 5 retries in the budget got %d, %v, want a retry", got, err)
		}
	}
}

func TestSharing_GoesOnWithoutItsBucketAndMerges(t *testing.T) {
	t.Parallel()
	r := newRig(t, sharedPolicies)
	call := &client.Call{Service: "guarded", Operation: "charge"}
	succeed(t, r.Client, call)
	fail(t, r.Client, call, client.ErrBreakerOpen)
	for _, bucket := range []string{"RETRY_BREAKERS", "RETRY_LEDGERS", "RETRY_PAUSES"} {
		if err := testkit.JetStream(t, r.nc).DeleteKeyValue(ctx(t), bucket); err != nil {
			t.Fatal(err)
		}
	}
	for service, want := range map[string]error{"guarded": client.ErrBreakerOpen, "lent": nil, "plain": nil} {
		fn, _ := failing(1, errBusy)
		_, err := client.Execute(ctx(t), r.Client, &client.Call{Service: service, Operation: "charge"}, fn)
		if !errors.Is(err, want) {
			t.Errorf("without the buckets %s gives %v, want %v", service, err, want)
		}
	}
	testkit.Eventually(t, patience, "the breakers being shared again", func() bool {
		circuits, err := r.Breakers(ctx(t))
		return err == nil && r.Sharing().Shared && len(circuits) > 0 && circuits[0].State == breaker.Open
	})
	r.act("reset", `{"key":"guarded:charge"}`)
	succeed(t, r.Client, call)
}

func TestSharing_CutOffClientGoesOnAndMergesLater(t *testing.T) {
	t.Parallel()
	r := newRig(t, sharedPolicies)
	proxy := testkit.Proxy(t, strings.TrimPrefix(r.url, "nats://"))
	var log lines
	c := connected(t, client.Config{
		Conn: testkit.Connect(t, "nats://"+proxy.Addr()), Policies: policySet(t, sharedPolicies), Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	call := &client.Call{Service: "guarded", Operation: "charge"}
	succeed(t, c, call)
	proxy.Cut()
	fail(t, c, call, client.ErrBreakerOpen)
	fn, _ := failing(1, errBusy)
	if got, err := client.Execute(ctx(t), c, &client.Call{Service: "lent", Operation: "charge"}, fn); got != 2 || err != nil {
		t.Errorf("while cut off a retry of a key with a budget got %d, %v, want it to go on", got, err)
	}
	if n := strings.Count(log.String(), "their store is out of reach"); n < 1 || n > 2 {
		t.Errorf("the log says %d times that the store is out of reach, want once of the breakers and at most once of the limits:\n%s", n, log.String())
	}
	proxy.Mend()
	testkit.Eventually(t, patience, "the service knowing of the breaker", func() bool {
		m, err := r.nc.RequestWithContext(ctx(t), "rebound.breaker.show", []byte(`{"key":"guarded:charge"}`))
		var shown schemas.BreakerShown
		return err == nil && client.ErrorFromReply(m) == nil && json.Unmarshal(m.Data, &shown) == nil && shown.State == breaker.Open
	})
	r.act("reset", `{"key":"guarded:charge"}`)
	succeed(t, c, call)
}

func TestSharing_ClientThatMayNotUseTheBucketsGoesOnAlone(t *testing.T) {
	t.Parallel()
	server := testkit.PlainServer(t, &natsd.Options{JetStream: true, StoreDir: t.TempDir(), Users: []*natsd.User{
		{Username: "service", Password: "p"},
		{Username: "client", Password: "p", Permissions: &natsd.Permissions{
			Publish: &natsd.SubjectPermission{Allow: []string{"retry.event.>", "retry.outcome.>"}}, Subscribe: &natsd.SubjectPermission{Allow: []string{"_INBOX.>"}},
		}},
	}})
	as := func(user string) *nats.Conn {
		return testkit.Connect(t, strings.Replace(server.ClientURL(), "://", "://"+user+":p@", 1))
	}
	set := policySet(t, sharedPolicies)
	service, err := handlers.Start(ctx(t), as("service"), handlers.Config{Policies: set, Logger: silent, Backpressure: unhindered})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = service.Stop(ctx(t)) })
	brief, cancel := context.WithTimeout(ctx(t), time.Second) // for the policies, which it may not read either
	defer cancel()
	var log lines
	c, err := client.New(brief, client.Config{Conn: as("client"), Policies: set, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeClient(t, c) })
	began := time.Now()
	fail(t, c, &client.Call{Service: "guarded", Operation: "charge"}, client.ErrBreakerOpen)
	fn, _ := failing(1, errBusy)
	if got, err := client.Execute(ctx(t), c, &client.Call{Service: "budgeted", Operation: "charge"}, fn); got != 2 || err != nil {
		t.Errorf("a retry of a key with a budget got %d, %v, want it to go on", got, err)
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("the calls took %v, want them to wait for what they may not have only once", took)
	}
	const alone = "breakers of Execute are this process's own"
	testkit.Eventually(t, patience, "the log saying that the breakers are not shared", func() bool { return strings.Contains(log.String(), alone) })
	if n := strings.Count(log.String(), alone); n != 1 {
		t.Errorf("the log says %d times that the breakers are not shared, want once:\n%s", n, log.String())
	}
}

func TestSharing_ConcurrencyIsBoundedTogether(t *testing.T) {
	t.Parallel()
	r := newRig(t, sharedPolicies)
	var inFlight, most atomic.Int64
	busy := func() {
		most.Store(max(most.Load(), inFlight.Add(1)))
		defer inFlight.Add(-1)
		time.Sleep(50 * time.Millisecond) // the work
	}
	r.worker(client.WorkerConfig{Service: "narrow", Operation: "charge"}, func(context.Context, *client.Request) error {
		busy()
		return nil
	})
	for i := range 10 {
		if _, err := r.Submit(ctx(t), client.Submission{Service: "narrow", Operation: "charge", EventID: fmt.Sprint(i), Err: errBusy}); err != nil {
			t.Fatal(err)
		}
	}
	var calls sync.WaitGroup
	var done atomic.Int64
	for range 10 {
		calls.Go(func() {
			_, err := client.Execute(ctx(t), r.Client, &client.Call{Service: "narrow", Operation: "charge"}, func(c context.Context) (int, error) {
				if client.AttemptFrom(c) == 1 {
					return 0, errBusy
				}
				busy()
				return 1, nil
			})
			if err == nil {
				done.Add(1)
			} else if !errors.Is(err, client.ErrRateLimited) {
				t.Errorf("got %v, want a success or a RateLimitedError", err)
			}
		})
	}
	calls.Wait()
	r.outcomes(10+int(done.Load()), client.OutcomeFilter{Service: "narrow", Name: events.RetrySuccess})
	if most.Load() > 2 || done.Load() == 0 {
		t.Errorf("%d retries were in flight at once and %d of Execute succeeded, want at most 2 and some", most.Load(), done.Load())
	}
}

func TestSharing_ClientThatIsThereFirstJoinsTheServiceLater(t *testing.T) {
	t.Parallel()
	url := testkit.Server(t).ClientURL()
	var log lines
	set := policySet(t, sharedPolicies)
	c := connected(t, client.Config{Conn: testkit.Connect(t, url), Policies: set, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	call := &client.Call{Service: "guarded", Operation: "charge"}
	began := time.Now()
	fail(t, c, call, client.ErrBreakerOpen)
	fn, _ := failing(1, errBusy)
	if got, err := client.Execute(ctx(t), c, &client.Call{Service: "budgeted", Operation: "charge"}, fn); got != 2 || err != nil {
		t.Errorf("without a service a retry of a key with a budget got %d, %v, want it to go on", got, err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("without a service the calls took %v, want them to wait for nothing", took)
	}
	if s := c.Sharing(); s.Shared || s.Limits || s.Store != "nats" || s.Err == nil {
		t.Errorf("without a service the client shares %+v, want nothing and why", s)
	}
	if n := strings.Count(log.String(), "no service keeps any here"); n != 1 {
		t.Errorf("the log says %d times that nothing is shared, want once:\n%s", n, log.String())
	}
	service, err := handlers.Start(ctx(t), testkit.Connect(t, url), handlers.Config{Policies: set, Logger: silent, Backpressure: unhindered})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = service.Stop(ctx(t)) })
	testkit.Eventually(t, patience, "the breakers being shared", func() bool { return c.Sharing().Shared })
	// What was opened alone is open for the service, too.
	r := &rig{Client: c, t: t, nc: testkit.Connect(t, url)}
	var shown schemas.BreakerShown
	r.admin("breaker.show", `{"key":"guarded:charge"}`, &shown)
	if shown.State != breaker.Open {
		t.Errorf("the service knows the breaker as %s, want OPEN", shown.State)
	}
	r.act("reset", `{"key":"guarded:charge"}`)
	succeed(t, c, call)
}

func TestSharing_LocalClientSharesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, sharedPolicies)
	local := connected(t, client.Config{Conn: r.nc, Policies: policySet(t, sharedPolicies), Local: true})
	call := &client.Call{Service: "guarded", Operation: "charge"}
	fail(t, local, call, client.ErrBreakerOpen)
	r.act("hold", `{"key":"plain:charge"}`)
	if _, err := client.Execute(ctx(t), local, &client.Call{Service: "plain", Operation: "charge"}, func(context.Context) (int, error) { return 1, nil }); err != nil {
		t.Errorf("a local client heeds the breaker of others: %v", err)
	}
	fn, _ := failing(0, nil)
	if _, err := client.Execute(ctx(t), r.Client, &client.Call{Service: "guarded", Operation: "charge"}, fn); err != nil {
		t.Errorf("a client that shares got %v, want the failures of the local one to be its own", err)
	}
	if s := local.Sharing(); s.Store != "" || s.Shared {
		t.Errorf("a local client shares %+v, want nothing", s)
	}
}

func TestSharing_InRedisWithAServiceThatUsesIt(t *testing.T) {
	t.Parallel()
	url := testkit.Server(t).ClientURL()
	rdb := redis.NewUniversalClient(redisstores.Options(&redis.UniversalOptions{Addrs: []string{testkit.Redis(t).Addr()}}))
	t.Cleanup(func() { _ = rdb.Close() })
	set := policySet(t, sharedPolicies)
	service, err := handlers.Start(ctx(t), testkit.Connect(t, url), handlers.Config{
		Policies: set, Logger: silent, Backpressure: unhindered, Breakers: redisstore.New(rdb, ""), Ledgers: redisledger.New(rdb, ""),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = service.Stop(ctx(t)) })
	nc := testkit.Connect(t, url)
	c := connected(t, client.Config{Conn: nc, Policies: set, Stores: redisstores.New(rdb, "")})
	call := &client.Call{Service: "guarded", Operation: "charge"}
	succeed(t, c, call)
	r := &rig{Client: c, t: t, nc: nc}
	r.act("hold", `{"key":"guarded:charge"}`)
	fail(t, c, call, client.ErrBreakerOpen)
	if s := c.Sharing(); s.Store != "redis" || !s.Shared || !s.Limits {
		t.Errorf("the client shares %+v, want it all in redis", s)
	}

	var log lines
	wrong := connected(t, client.Config{Conn: nc, Policies: set, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	succeed(t, wrong, &client.Call{Service: "plain", Operation: "charge"})
	testkit.Eventually(t, patience, "a client without Redis noticing", func() bool { return wrong.Sharing().Service == "redis" })
	if n := strings.Count(log.String(), "keeps breakers and limits elsewhere"); n != 1 {
		t.Errorf("the log says %d times that the service shares elsewhere, want once:\n%s", n, log.String())
	}
}

// pressed reports an instance with the lowest id that says that backpressure is on, which all
// others follow, until the test ends.
func pressed(t *testing.T, nc *nats.Conn) {
	t.Helper()
	began := time.Now()
	report := func() {
		m, err := wire.EncodeInstance(events.Subjects{}, &events.InstanceReport{
			ID: "0", State: events.InstanceServing, Version: "test", Started: began, Store: "nats",
			Backpressure: events.Backpressure{On: true, Cause: string(gate.PressureFailures), Since: began},
		})
		if err == nil {
			err = nc.PublishMsg(m)
		}
		if err != nil {
			t.Errorf("reporting backpressure: %v", err)
		}
	}
	report()
	stop := make(chan struct{})
	var reporting sync.WaitGroup
	reporting.Go(func() {
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				report()
			}
		}
	})
	t.Cleanup(func() {
		close(stop)
		reporting.Wait()
	})
}

func TestSharing_BackpressureSlowsExecuteUnlessTheCallDoesNotRespectIt(t *testing.T) {
	t.Parallel()
	r := newRig(t, sharedPolicies)
	succeed(t, r.Client, &client.Call{Service: "other", Operation: "charge"}) // it hears of the instances from now on
	pressed(t, r.nc)
	respects := &client.Call{Service: "plain", Operation: "charge", Overrides: map[string]string{"maxDelay": "1ms"}}
	err := fail(t, r.Client, respects, client.ErrRateLimited)
	var limited *client.RateLimitedError
	if !errors.As(err, &limited) || limited.Limit != "respectGlobalBackpressure" || time.Until(limited.RetryAt) > 10*time.Second || !errors.Is(err, errBusy) {
		t.Errorf("under backpressure a failing key got %v, %+v, want it limited by respectGlobalBackpressure for a moment", err, limited)
	}
	free := &client.Call{Service: "plain", Operation: "charge", Overrides: map[string]string{"respectGlobalBackpressure": "false", "maxAttempts": "3"}}
	for range 5 {
		fn, calls := failing(always, errBusy)
		if _, err := client.Execute(ctx(t), r.Client, free, fn); !errors.Is(err, client.ErrExhausted) || calls.Load() != 3 {
			t.Fatalf("a call that does not respect backpressure got %v after %d calls, want the 3 attempts that it asks for", err, calls.Load())
		}
	}
	urgent := &client.Call{Service: "plain", Operation: "charge", Priority: client.Critical}
	fn, calls := failing(always, errBusy)
	if _, err := client.Execute(ctx(t), r.Client, urgent, fn); !errors.Is(err, client.ErrExhausted) || calls.Load() != 4 {
		t.Errorf("a critical call got %v after %d calls, want all 4 attempts", err, calls.Load())
	}
}

func TestSharing_SubmissionThatDoesNotRespectBackpressurePassesTheTrickle(t *testing.T) {
	t.Parallel()
	r := newRig(t, sharedPolicies)
	var attempts sync.Map // by id
	r.worker(client.WorkerConfig{Service: "patient", Operation: "charge"}, func(_ context.Context, r *client.Request) error {
		n, _ := attempts.LoadOrStore(string(r.Data), new(atomic.Int64))
		n.(*atomic.Int64).Add(1)
		return errBusy
	})
	pressed(t, r.nc)
	submit := func(id string, overrides map[string]string) {
		if _, err := r.Submit(ctx(t), client.Submission{Service: "patient", Operation: "charge", EventID: id, Data: []byte(id), Overrides: overrides, Err: errBusy}); err != nil {
			t.Fatal(err)
		}
	}
	submit("slow", nil)
	r.awaitHeld("patient:charge", gate.CauseBackpressure)
	submit("free", map[string]string{"respectGlobalBackpressure": "false", "maxAttempts": "30"})
	o := r.outcomes(1, client.OutcomeFilter{Service: "patient"})[0]
	if o.EventID != "free" || o.Attempts != 30 {
		t.Errorf("%s ended after %d attempts, want the free one after the 30 that it asked for", o.EventID, o.Attempts)
	}
	if n, ok := attempts.Load("slow"); !ok || n.(*atomic.Int64).Load() > 29 {
		t.Errorf("the one that respects backpressure made as many attempts, want a trickle")
	}
}
