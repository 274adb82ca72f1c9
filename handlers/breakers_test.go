package handlers_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/breaker/redisstore"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/redisconn"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/schemas"
)

func TestBreakers_EndpointsAnswerByTheirSchemasOrRefuse(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{})
	act := schemas.BreakerAct{Key: "pay:charge", ForMs: 60_000, Note: "being moved"}
	for _, c := range []struct {
		endpoint, request, response string
		body                        any
	}{
		{"breaker.trip", "breakerAct.request", "breakerAct.response", act},
		{"breaker.list", "breakerList.request", "breakerList.response", schemas.BreakerQuery{Service: "pay"}},
		{"breaker.show", "breakerShow.request", "breakerShow.response", schemas.BreakerShow{Key: "pay:charge"}},
		{"breaker.hold", "breakerAct.request", "breakerAct.response", act},
		{"status", "", "status.response", nil},
		{"breaker.reset", "breakerAct.request", "breakerAct.response", act},
	} {
		if c.request != "" {
			doc, err := json.Marshal(c.body)
			if err != nil {
				t.Fatal(err)
			}
			if err := schemas.Validate(c.request, doc); err != nil {
				t.Errorf("the request of %s breaks its schema: %v\n%s", c.endpoint, err, doc)
			}
		}
		var answer json.RawMessage
		if code, text := r.request("rebound."+c.endpoint, nil, c.body, &answer); code != "" {
			t.Errorf("%s: %s %s", c.endpoint, code, text)
			continue
		}
		if err := schemas.Validate(c.response, answer); err != nil {
			t.Errorf("the answer of %s breaks its schema: %v\n%s", c.endpoint, err, answer)
		}
	}
	for _, c := range []struct{ endpoint, body, want string }{
		{"breaker.trip", `{"key":"pay"}`, "not of the form service:operation"},
		{"breaker.trip", `{"key":"pay:charge","forMs":-1}`, "forMs is -1"},
		{"breaker.hold", `{"key":"pay:charge","note":"` + strings.Repeat("x", 501) + `"}`, "more than the 500 allowed"},
		{"breaker.list", `{"service":"a b"}`, "service"},
		{"breaker.reset", `{"kee":"pay:charge"}`, "unknown field"},
	} {
		if code, text := r.request("rebound."+c.endpoint, nil, []byte(c.body), nil); code != "400" || !strings.Contains(text, c.want) {
			t.Errorf("%s with %.60s is answered with %s %q, want 400 saying %q", c.endpoint, c.body, code, text, c.want)
		}
	}
}

// TestBreakers_AreSharedByInstances opens a breaker by the attempts of three instances, at which
// 200 operations come due at once.
func TestBreakers_AreSharedByInstances(t *testing.T) {
	t.Parallel()
	redis := testkit.Redis(t)
	for name, store := range map[string]func() breaker.Store{
		"in NATS": func() breaker.Store { return nil },
		"in Redis": func() breaker.Store {
			client, err := redisconn.Open(redis.URL())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = client.Close() })
			return redisstore.New(client, "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			set := policySet(t, strings.Replace(guarded, "circuitBreakerTimeout: 1s", "circuitBreakerTimeout: 1h", 1))
			services := make([]*handlers.Service, 3)
			for i := range services {
				services[i] = r.start(handlers.Config{Policies: set, Breakers: store()})
			}
			r.agree(len(services), services...)
			target, calls := r.switched("pay.charge")
			target.down.Store(true)
			r.submitAll(200, func(i int) (string, map[string]string) {
				return "retry.submit.pay.charge", event(strconv.Itoa(i), "normal")
			})
			testkit.Eventually(t, 20*time.Second, "all operations to wait", func() bool {
				return r.count("RETRY", "retry.held.>")+r.count("RETRY", "retry.parked.>") == 200 && r.count("RETRY", "retry.due.>") == 0
			})
			// 48 attempts go before anything is known of the target, then of each instance one less
			// than open the breaker, and ten a second until it hears that the breaker is open.
			n := calls.Load()
			t.Logf("the target that is down was called %d times", n)
			if n < 5 || n >= 100 {
				t.Errorf("the target that is down was called %d times, want about %d at most", n, 48+len(services)*(5-1))
			}
			opened := r.count("RETRY_OUTCOMES", "retry.event.breakerChanged.pay.charge")
			if opened != 1 {
				t.Errorf("the opening was published %d times, want once", opened)
			}
			target.down.Store(false)
			r.act("reset", schemas.BreakerAct{Key: "pay:charge"})
			testkit.Eventually(t, 20*time.Second, "the held operations to end", func() bool { return r.count("RETRY", "retry.held.>") == 0 })
		})
	}
}

func TestBreakers_ProbesAreBoundedOverAllInstances(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	set := policySet(t, guarded)
	for range 3 {
		r.start(handlers.Config{Policies: set})
	}
	var mu sync.Mutex
	now, most := 0, 0
	release := make(chan struct{})
	// The micro framework calls a target for one request at a time, so several of
	// them answer.
	for range 12 {
		connect(t, r.url).target("pay.charge", func(int, micro.Request) (string, string, micro.Headers) {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			<-release
			mu.Lock()
			now--
			mu.Unlock()
			return "", "", nil
		})
	}
	// All come due just after the breaker lets probes through.
	r.act("trip", schemas.BreakerAct{Key: "pay:charge", ForMs: 2000})
	for i := range 60 {
		r.submit("retry.submit.pay.charge", event(strconv.Itoa(i), "normal"), "x")
	}
	testkit.Eventually(t, 20*time.Second, "all but the probes to be held", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return now > 0 && r.count("RETRY", "retry.held.>") >= 57
	})
	<-time.After(300 * time.Millisecond)
	mu.Lock()
	got := most
	mu.Unlock()
	close(release)
	if got > 3 {
		t.Errorf("%d probes were in flight over three instances, want at most 3", got)
	}
	for _, o := range r.awaitOutcomes(60, 30*time.Second) {
		if o.Outcome != events.RetrySuccess {
			t.Errorf("an operation ended as %+v", o)
		}
	}
}

func TestBreakers_WithoutTheirStoreTheInstanceIsReadyAndSaysSo(t *testing.T) {
	t.Parallel()
	redis := testkit.Redis(t)
	client, err := redisconn.Open(redis.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	redis.Stop()
	r := newRig(t)
	s := r.start(handlers.Config{Policies: policySet(t, guarded), Breakers: redisstore.New(client, "")})
	ready := func() schemas.Sharing {
		w := httptest.NewRecorder()
		s.HTTP().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
		var body struct {
			Status, Detail string
			Instances      int
			Coordination   schemas.Sharing
		}
		if err := errors.Join(json.NewDecoder(w.Body).Decode(&body), drained(w.Body)); err != nil || body.Status != "ready" {
			t.Fatalf("/readyz says %+v, %v; want ready", body, err)
		}
		if local := strings.Contains(body.Detail, "coordination is local"); local == body.Coordination.Shared || body.Instances != 1 {
			t.Errorf("/readyz says %+v, want one instance and a detail that coordination is local if and only if it is not shared", body)
		}
		return body.Coordination
	}
	if c := ready(); c.Shared || c.Problem == "" || c.Store != "redis" {
		t.Errorf("without Redis the readiness is %+v, want not shared and why", c)
	}
	r.target("pay.charge", func(int, micro.Request) (string, string, micro.Headers) { return "", "", nil })
	r.submit("retry.submit.pay.charge", nil, "x")
	r.awaitOutcomes(1, 10*time.Second)
	redis.Restart()
	testkit.Eventually(t, 20*time.Second, "it joins again by itself", func() bool { return ready().Shared })
}

func drained(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

func TestBreakers_OperatorHoldsAKeyWhosePolicyHasNone(t *testing.T) {
	t.Parallel()
	config := handlers.Config{Policies: policySet(t, quick)}
	r := newRig(t, config, config)
	calls := r.well("pay.charge")
	if acted := r.act("hold", schemas.BreakerAct{Key: "pay:charge", By: "ann", Note: "the bank"}); !acted.Held || acted.Operated.By != "ann" {
		t.Errorf("the breaker is %+v, want held by ann", acted)
	}
	r.awaitOpen("pay:charge")
	const n = 10
	r.submitAll(n, func(i int) (string, map[string]string) {
		return "retry.submit.pay.charge", event(fmt.Sprint("h", i), "critical")
	})
	r.awaitHeld(n)
	if calls() != 0 {
		t.Errorf("%d operations reached the target of a held breaker", calls())
	}
	r.act("reset", schemas.BreakerAct{Key: "pay:charge", By: "bob"})
	r.awaitOutcomes(n, 20*time.Second)
	r.act("trip", schemas.BreakerAct{Key: "pay:charge", ForMs: 1500, By: "ann"})
	r.awaitOpen("pay:charge")
	r.submitAll(n, func(i int) (string, map[string]string) {
		return "retry.submit.pay.charge", event(fmt.Sprint("t", i), "normal")
	})
	r.awaitOutcomes(2*n, 20*time.Second)
	if shown := r.breaker("pay:charge"); shown.State != breaker.Closed || shown.Cause != breaker.CauseProbesSucceeded {
		t.Errorf("after the trip the breaker is %+v, want closed by probes", shown.Summary)
	}
	for _, m := range r.messages("RETRY_OUTCOMES", "retry.event.breakerChanged.pay.charge") {
		var c events.BreakerChange
		if err := json.Unmarshal(m.Data, &c); err != nil {
			t.Fatal(err)
		}
		if want := map[string]string{"held": "ann", "reset": "bob", "tripped": "ann"}[c.Cause]; c.By != want {
			t.Errorf("the event of cause %s says by %q, want %q", c.Cause, c.By, want)
		}
	}
}

// hold opens a breaker until it is reset, at every instance: one that has not heard of it yet
// attempts what comes due.
func (r *rig) hold(key string) {
	r.t.Helper()
	r.act("hold", schemas.BreakerAct{Key: key})
	r.awaitOpen(key)
}

// awaitOpen waits until every instance knows that a breaker is open.
func (r *rig) awaitOpen(key string) {
	r.t.Helper()
	testkit.Eventually(r.t, 30*time.Second, "all instances knowing that the breaker is open", func() bool {
		for range 30 { // each is answered by one of them, from what it knows
			var list schemas.BreakerList
			r.request("rebound.breaker.list", nil, schemas.BreakerQuery{}, &list)
			open := func(s breaker.Summary) bool { return s.ServiceKey == key && s.State == breaker.Open }
			if !slices.ContainsFunc(list.Breakers, open) {
				return false
			}
		}
		return true
	})
}
