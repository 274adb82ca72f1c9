package handlers_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/schemas"
)

// limited starts a server whose account may store that many bytes.
func limited(t *testing.T, most int64) (url string) {
	t.Helper()
	account := natsd.NewAccount("LIMITED")
	s := testkit.PlainServer(t, &natsd.Options{
		JetStream: true, StoreDir: t.TempDir(), Accounts: []*natsd.Account{account}, NoAuthUser: "u",
		Users: []*natsd.User{{Username: "u", Password: "p", Account: account}},
	})
	account, err := s.LookupAccount("LIMITED")
	if err != nil {
		t.Fatal(err)
	}
	limits := map[string]natsd.JetStreamAccountLimits{"": {MaxMemory: -1, MaxStore: most, MaxStreams: -1, MaxConsumers: -1}}
	if err := account.EnableJetStream(limits, nil); err != nil {
		t.Fatal(err)
	}
	return s.ClientURL()
}

// fill stores until the account is full, and returns a function that empties it.
func (r *rig) fill() (empty func()) {
	r.t.Helper()
	stream, err := r.js.CreateStream(r.t.Context(), jetstream.StreamConfig{Name: "FILL", Subjects: []string{"fill"}})
	if err != nil {
		r.t.Fatal(err)
	}
	for size := 256 << 10; size > 0; {
		if _, err := r.js.Publish(r.t.Context(), "fill", make([]byte, size)); err != nil {
			size /= 8
		}
	}
	return func() {
		if err := stream.Purge(r.t.Context()); err != nil {
			r.t.Fatal(err)
		}
	}
}

func TestSweeper_WhatAFullAccountKeptFromFiringGoesOnWithoutARestart(t *testing.T) {
	t.Parallel()
	r := connect(t, limited(t, 8<<20))
	var log testkit.Buffer
	// Long enough for a busy machine to fill the account before they are over.
	s := r.start(handlers.Config{Logger: logger(&log), Policies: policySet(t, `
default: {maxAttempts: 2, baseDelay: 40s, maxDelay: 40s, backoffStrategy: fixed, jitterType: none}
jobs: {maxAttempts: 2, baseDelay: 10ms, maxDelay: 10ms, backoffStrategy: fixed, jitterType: none, attemptTimeout: 40s}
`)})
	r.target("billing.charge", succeed)
	const n = 20
	for range n {
		r.submit("retry.submit.billing.charge", nil, "x")
	}
	// Nobody works on this one, so its watchdog must end the attempt.
	r.submit("retry.submit.jobs.run", map[string]string{"ce-delivery": "publish"}, "x")
	testkit.Eventually(t, 30*time.Second, "all being parked", func() bool {
		return r.count("RETRY", "retry.parked.>") == n+1 && r.count("RETRY_WORK", ">") == 1
	})
	parked := time.Now()
	empty := r.fill()
	testkit.Eventually(t, 10*time.Second, "the instance saying why it is not ready", func() bool {
		code, says := readyz(t, s)
		return code == http.StatusServiceUnavailable && strings.Contains(says, "the account is at its storage limit")
	})
	testkit.Eventually(t, time.Minute, "the time of all being over", func() bool { return time.Since(parked) > 42*time.Second })
	if left := r.count("RETRY", "retry.parked.>"); left != n+1 {
		t.Fatalf("%d operations are parked, want all %d: the account was not full in time", left, n+1)
	}
	const overdue = "21 operations overdue: the NATS server did not fire the schedule in time"
	testkit.Eventually(t, 40*time.Second, "the instance saying that they are overdue", func() bool {
		var answer schemas.Health
		r.request("rebound.health", nil, nil, &answer)
		return len(answer.Warnings) == 1 && strings.HasPrefix(answer.Warnings[0], overdue)
	})
	scrape := newScraper(t, s)
	scrape.await("rebound_operations_overdue", n+1)
	empty()
	awaitReady(t, s, 10*time.Second)
	r.awaitOutcomes(n+1, 30*time.Second)
	scrape.await("rebound_operations_overdue", 0)
	scrape.await("rebound_operations_forgotten_total", n+1)
	testkit.Eventually(t, 10*time.Second, "nothing waiting", func() bool { return r.count("RETRY", ">") == 0 })
	for _, says := range []string{"the account is at its storage limit", "there is room to store again", "had been forgotten by the NATS server"} {
		if !strings.Contains(log.String(), says) {
			t.Errorf("the log does not say %q:\n%s", says, log.String())
		}
	}
}

// TestTeller_FullAccountHasAnOutcomeToldTwiceAtMost ends an operation while the account is full, and
// keeps it full for longer than any pause between two tries.
func TestTeller_FullAccountHasAnOutcomeToldTwiceAtMost(t *testing.T) {
	t.Parallel()
	r := connect(t, limited(t, 8<<20))
	r.start(handlers.Config{})
	told := r.overhear("retry.outcome.>")
	probes := r.overhear("retry.parked.probe")
	called, answer := make(chan struct{}), make(chan struct{})
	r.target("billing.charge", func(int, micro.Request) (string, string, micro.Headers) {
		close(called)
		<-answer
		return "", "", nil
	})
	r.submit("retry.submit.billing.charge", nil, "x")
	<-called
	empty := r.fill()
	close(answer)
	pending := func(sub *nats.Subscription) int {
		n, _, err := sub.Pending()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	testkit.Eventually(t, time.Minute, "four probes of the full account", func() bool { return pending(probes) >= 4 })
	empty()
	r.awaitOutcomes(1, 20*time.Second)
	r.awaitEmpty()
	if n := pending(told); n < 1 || n > 2 {
		t.Errorf("subscribers were told the outcome %d times, want once or twice", n)
	}
}
