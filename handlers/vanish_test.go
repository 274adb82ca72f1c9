package handlers_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/embedded"
	"github.com/rebound-mq/rebound/internal/testkit"
)

// readyz returns the answer of an instance's /readyz.
func readyz(t *testing.T, s *handlers.Service) (code int, says string) {
	t.Helper()
	w := httptest.NewRecorder()
	s.HTTP().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	var answer struct{ Reason, Detail string }
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		t.Fatalf("/readyz answers %q: %v", w.Body, err)
	}
	return w.Code, answer.Reason + answer.Detail
}

// logger logs into a buffer.
func logger(log *testkit.Buffer) *slog.Logger { return slog.New(slog.NewTextHandler(log, nil)) }

// awaitReady waits until an instance is ready.
func awaitReady(t *testing.T, s *handlers.Service, within time.Duration) {
	t.Helper()
	testkit.Eventually(t, within, "the instance being ready", func() bool {
		code, _ := readyz(t, s)
		return code == http.StatusOK
	})
}

// works checks that an operation is retried and succeeds, at whichever instance.
func (r *rig) works(id string, within time.Duration) {
	r.t.Helper()
	outcomes, err := r.nc.SubscribeSync("retry.outcome.retrySuccess.>")
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = outcomes.Unsubscribe() }()
	testkit.Eventually(r.t, within, "submission "+id+" being stored", func() bool {
		return r.trySubmit("retry.submit.billing.charge", id)
	})
	testkit.Eventually(r.t, within, "the outcome of "+id, func() bool {
		m, err := outcomes.NextMsg(time.Second)
		return err == nil && strings.Contains(string(m.Data), `"`+id+`"`)
	})
}

// succeed is a healthy target.
func succeed(int, micro.Request) (code, description string, h micro.Headers) { return "", "", nil }

func TestKeeper_ServerThatComesBackEmptyIsFittedOutAnew(t *testing.T) {
	t.Parallel()
	first := testkit.Server(t)
	r := connect(t, first.ClientURL())
	a, b := r.start(handlers.Config{}), r.start(handlers.Config{})
	r.target("billing.charge", succeed)
	r.works("before", 10*time.Second)

	first.Shutdown()
	second := testkit.Server(t, func(o *embedded.Options) { o.Port = port(t, first.ClientURL()) })
	if second.Addr() != first.Addr() {
		t.Fatalf("the server is at %s, want %s", second.Addr(), first.Addr())
	}
	for _, s := range []*handlers.Service{a, b} {
		awaitReady(t, s, 15*time.Second)
	}
	for i := range 5 {
		r.works(fmt.Sprintf("after-%d", i), 15*time.Second)
	}
	r.awaitEmpty()
}

func TestKeeper_StreamThatVanishesIsMadeAnewAndMissedUntilThen(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, b := r.start(handlers.Config{}), r.start(handlers.Config{})
	r.target("billing.charge", succeed)
	for _, name := range []string{"RETRY_INTAKE", "RETRY", "RETRY_OUTCOMES", "RETRY_DEAD", "KV_RETRY_POLICIES", "KV_RETRY_ADOPTED", "KV_RETRY_BREAKERS", "KV_RETRY_LEDGERS", "KV_RETRY_LANES", "KV_RETRY_PAUSES"} {
		if _, err := r.js.Stream(t.Context(), name); err != nil {
			t.Fatalf("before it is removed, %s: %v", name, err)
		}
		r.works("before-"+name, 15*time.Second)
		if err := r.js.DeleteStream(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, 15*time.Second, name+" being there again", func() bool {
			_, err := r.js.Stream(t.Context(), name)
			return err == nil
		})
		awaitReady(t, a, 15*time.Second)
		awaitReady(t, b, 15*time.Second)
		r.works("after-"+name, 15*time.Second)
	}
}

func TestKeeper_InstanceWhoseServerStandsStillIsNotReadyUntilItGoesOn(t *testing.T) {
	t.Parallel()
	server := testkit.Server(t)
	r := connect(t, server.ClientURL())
	s := r.start(handlers.Config{})
	awaitReady(t, s, 10*time.Second)
	server.Freeze(t)
	testkit.Eventually(t, 10*time.Second, "the instance saying that the server does not answer", func() bool {
		code, says := readyz(t, s)
		return code == http.StatusServiceUnavailable && says == "the NATS server does not answer: it stands still, or the network to it does"
	})
	server.Thaw(t)
	awaitReady(t, s, 10*time.Second)
	r.target("billing.charge", succeed)
	r.works("after", 15*time.Second)
}

// TestKeeper_InstanceThatMissesAStreamOrBucketIsNotReadyAndSaysWhich removes each in turn. Somebody
// else listens on its subjects as soon as it is gone, so it cannot be made.
func TestKeeper_InstanceThatMissesAStreamOrBucketIsNotReadyAndSaysWhich(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := r.start(handlers.Config{})
	awaitReady(t, s, 15*time.Second)
	remove := func(name string) {
		if err := r.js.DeleteStream(t.Context(), name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			t.Fatal(err)
		}
	}
	for name, subject := range map[string]string{
		"RETRY_DEAD": "retry.dead.>", "KV_RETRY_BREAKERS": "$KV.RETRY_BREAKERS.>", "KV_RETRY_LEDGERS": "$KV.RETRY_LEDGERS.>",
		"KV_RETRY_PAUSES": "$KV.RETRY_PAUSES.>", "KV_RETRY_POLICIES": "$KV.RETRY_POLICIES.>", "KV_RETRY_LANES": "$KV.RETRY_LANES.>", "KV_RETRY_ADOPTED": "$KV.RETRY_ADOPTED.>",
	} {
		testkit.Eventually(t, 10*time.Second, "another stream in the place of "+name, func() bool {
			remove(name)
			_, err := r.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "TAKEN", Subjects: []string{subject}})
			return err == nil
		})
		testkit.Eventually(t, 15*time.Second, "the instance saying that it misses "+name, func() bool {
			// The server may have made both when they were asked for at the same time.
			remove(name)
			code, says := readyz(t, s)
			return code == http.StatusServiceUnavailable && strings.Contains(says, name+" is missing and cannot be made anew")
		})
		remove("TAKEN")
		awaitReady(t, s, 15*time.Second)
	}
}

func TestKeeper_ConsumerThatVanishesIsMadeAnewAndNothingIsToldTwice(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(handlers.Config{})
	r.start(handlers.Config{})
	r.target("billing.charge", succeed)
	const n = 30
	ids := make([]string, n)
	for i := range n {
		ids[i] = fmt.Sprintf("event-%d", i)
		r.submit("retry.submit.billing.charge", map[string]string{"ce-id": ids[i], "ce-errorcode": "503"}, "x")
		var err error
		switch i % 10 {
		case 4:
			err = r.js.DeleteConsumer(t.Context(), "RETRY_INTAKE", "rebound-intake")
		case 9:
			err = r.js.DeleteConsumer(t.Context(), "RETRY", "rebound-due-normal")
		}
		if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, 30*time.Second, "every outcome", func() bool { return r.count("RETRY_OUTCOMES", "retry.outcome.>") >= n })
	r.awaitEmpty()
	outcomes := map[string]int{}
	for _, o := range r.outcomes() {
		outcomes[o.EventID]++
	}
	for _, id := range ids {
		if outcomes[id] != 1 {
			t.Errorf("operation %s has %d outcomes, want 1", id, outcomes[id])
		}
	}
}

func TestIntake_StreamThatWasMadeAnewNamesItsSubmissionsAnew(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := r.start(handlers.Config{Policies: policySet(t, `default: {baseDelay: 1h, maxDelay: 1h, backoffStrategy: fixed, jitterType: none}`)})
	r.submit("retry.submit.billing.charge", nil, "the first")
	testkit.Eventually(t, 10*time.Second, "the first being parked", func() bool { return r.count("RETRY", "retry.parked.>") == 1 })
	if err := r.js.DeleteStream(t.Context(), "RETRY_INTAKE"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 10*time.Second, "the intake being there again", func() bool {
		_, err := r.js.Stream(t.Context(), "RETRY_INTAKE")
		return err == nil
	})
	awaitReady(t, s, 10*time.Second)
	r.submit("retry.submit.billing.charge", nil, "the second")
	testkit.Eventually(t, 10*time.Second, "the second being parked too", func() bool { return r.count("RETRY", "retry.parked.>") == 2 })
}
