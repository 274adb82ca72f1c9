package handlers_test

import (
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestShare_TargetThatHangsLeavesRoomForTheOthers(t *testing.T) {
	t.Parallel()
	const flood = 600
	r := newRig(t, handlers.Config{MaxInFlight: 200, Policies: policySet(t, `default: {maxAttempts: 2, baseDelay: 20ms, jitterType: none, attemptTimeout: 10m}`)})
	// The target takes requests and answers none before the end.
	var requests atomic.Int64
	end := make(chan struct{})
	if _, err := r.nc.Subscribe("slow.call", func(m *nats.Msg) {
		requests.Add(1)
		go func() {
			<-end
			_ = m.Respond(nil)
		}()
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(end) })
	r.target("well.call", func(int, micro.Request) (string, string, micro.Headers) { return "", "", nil })
	r.submitAll(flood, func(i int) (string, map[string]string) {
		return "retry.submit.slow.call", map[string]string{"ce-id": strconv.Itoa(i)}
	})
	testkit.Eventually(t, 30*time.Second, "the target hanging", func() bool { return requests.Load() >= 100 })
	r.submit("retry.submit.well.call", nil, "x")
	if got := r.awaitOutcomes(1, 30*time.Second)[0]; got.Service != "well" || got.Outcome != events.RetrySuccess {
		t.Errorf("the first to end is %s of %s, want the success of the service that is well", got.Outcome, got.Service)
	}
	testkit.Eventually(t, 30*time.Second, "the rest being held", func() bool { return r.count("RETRY", "retry.held.>") >= flood-161 })
	if n := requests.Load(); n < 150 || n > 161 {
		t.Errorf("%d requests hang, want about four fifths of 200: the key is alone", n)
	}
}
