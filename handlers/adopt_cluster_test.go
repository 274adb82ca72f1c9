package handlers_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/schemas"
)

// leader returns the index of the server that leads a stream, or -1 while none
// does.
func (r *rig) leader(stream string) int {
	s, err := r.js.Stream(r.t.Context(), stream)
	if err != nil || s.CachedInfo().Cluster == nil {
		return -1
	}
	var n int
	if _, err := fmt.Sscanf(s.CachedInfo().Cluster.Leader, "node-%d", &n); err != nil {
		return -1
	}
	return n - 1
}

func TestAdoption_ClusterThatLosesTheLeaderOfTheAdvisoriesLosesNoMessage(t *testing.T) {
	t.Parallel()
	const messages = 900
	cluster := testkit.Cluster(t, 3)
	r := connect(t, cluster.URL())
	config := handlers.Config{Limits: streams.Limits{Replicas: 3}, Lease: 2 * time.Second, Policies: policySet(t, `
default: {maxAttempts: 100, baseDelay: 10ms, maxDelay: 500ms, jitterType: none, attemptTimeout: 20s}
`)}
	r.start(config)
	r.start(config)
	f := newFailing(r, messages)
	r.target("t.x", f.target)
	consumer := r.orders(func(s *jetstream.StreamConfig, c *jetstream.ConsumerConfig) {
		s.Replicas, c.AckWait = 3, 2*time.Second
	})
	r.adopt(schemas.AdoptAdd{Stream: "ORDERS", Consumer: "worker", Target: "t.x"})
	f.publish(r, 1, messages/3, 200)
	r.work(consumer, f.handle)

	testkit.Eventually(t, time.Minute, "some of the messages having arrived", func() bool { return f.targets() > 50 })
	away := -1
	testkit.Eventually(t, 30*time.Second, "the advisories having a leader", func() bool {
		away = r.leader("RETRY_ADVISORIES")
		return away >= 0
	})
	f.publish(r, messages/3+1, messages, 50) // more than the worker can handle until then
	cluster.Stop(away)
	f.pace.SetLimit(200)
	testkit.Eventually(t, time.Minute, "more of the messages having arrived", func() bool { return f.targets() > messages/9 })
	cluster.Restart(away)

	want := messages / 3
	testkit.Eventually(t, 2*time.Minute, fmt.Sprintf("%d outcomes", want), func() bool { return r.count("RETRY_OUTCOMES", "retry.outcome.>") >= want })
	testkit.Eventually(t, time.Minute, "everything being taken over", func() bool {
		return r.count("RETRY_ADVISORIES", ">") == 0 && r.count("RETRY", ">") == 0
	})
	f.check(r, messages)
}

func TestRelay_HandsOnWhatTheStreamOfAdvisoriesMisses(t *testing.T) {
	t.Parallel()
	for name, stopping := range map[string]bool{"after a while": false, "when it stops": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			stop := begin(r, handlers.Config{Policies: policySet(t, patient)})
			consumer := r.orders()
			r.target("t.x", func(int, micro.Request) (string, string, micro.Headers) { return "", "", nil })
			r.adopt(schemas.AdoptAdd{Stream: "ORDERS", Consumer: "worker", Target: "t.x"})
			r.deafen()
			given, err := r.nc.SubscribeSync("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.ORDERS.worker")
			if err != nil {
				t.Fatal(err)
			}
			r.work(consumer, nak)
			r.order("orders.new", "x", nil)
			if _, err := given.NextMsg(10 * time.Second); err != nil {
				t.Fatal(err)
			}
			if stopping {
				// Once the instance answers a later message, it has the advisory in hand.
				r.request("rebound.status", nil, nil, nil)
				stop()
				// Its last pull may have taken it over already.
				n := r.count("RETRY_ADVISORIES", "retry.advisory.ORDERS.worker") + r.count("RETRY", ">") + r.count("RETRY_OUTCOMES", "retry.outcome.>")
				if n != 1 {
					t.Fatalf("the instance handed on %d advisories, want 1", n)
				}
				r.start(handlers.Config{Policies: policySet(t, patient)})
			}
			if got := r.awaitOutcomes(1, 30*time.Second)[0]; got.Outcome != events.RetrySuccess {
				t.Errorf("the outcome is %+v", got)
			}
			r.awaitTaken()
		})
	}
}

// deafen makes the stream of advisories miss what the server sends.
func (r *rig) deafen() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 10*time.Second)
	defer cancel()
	s, err := r.js.Stream(ctx, "RETRY_ADVISORIES")
	if err != nil {
		r.t.Fatal(err)
	}
	config := s.CachedInfo().Config
	config.Subjects = slices.DeleteFunc(config.Subjects, func(s string) bool { return strings.HasPrefix(s, "$JS.") })
	if _, err := r.js.UpdateStream(ctx, config); err != nil {
		r.t.Fatal(err)
	}
}
