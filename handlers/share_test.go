package handlers_test

import (
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/testkit"
)

// hangingTarget answers no request on subject before the test ends. It counts them.
func (r *rig) hangingTarget(subject string) *atomic.Int64 {
	r.t.Helper()
	var requests atomic.Int64
	end := make(chan struct{})
	if _, err := r.nc.Subscribe(subject, func(m *nats.Msg) {
		requests.Add(1)
		go func() {
			<-end
			_ = m.Respond(nil)
		}()
	}); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { close(end) })
	return &requests
}

func TestShare_TargetThatHangsLeavesRoomForTheOthers(t *testing.T) {
	t.Parallel()
	const flood = 600
	r := newRig(t, handlers.Config{MaxInFlight: 200, Policies: policySet(t, `default: {maxAttempts: 2, baseDelay: 20ms, jitterType: none, attemptTimeout: 10m}`)})
	requests := r.hangingTarget("slow.call")
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

func TestShare_OthersDoNotWaitUntilAFloodIsHeld(t *testing.T) {
	t.Parallel()
	const flood, mostInFlight = 300, 200
	r := newRig(t)
	var released atomic.Bool
	holds := testkit.Lossy(t, strings.TrimPrefix(r.url, "nats://"), func(p testkit.Publication) testkit.Fate {
		if strings.HasPrefix(p.Subject, "retry.held.") && !released.Load() {
			return testkit.Keep
		}
		return testkit.Pass
	})
	holdAll := func() {
		released.Store(true)
		holds.Release()
	}
	connect(t, holds.URL()).start(handlers.Config{
		MaxInFlight: mostInFlight, Policies: policySet(t, `default: {maxAttempts: 2, baseDelay: 20ms, jitterType: none, attemptTimeout: 10m}`),
	})
	requests := r.hangingTarget("slow.call")
	t.Cleanup(holdAll) // before the instance stops
	r.target("well.call", func(int, micro.Request) (string, string, micro.Headers) { return "", "", nil })
	r.submitAll(flood, func(i int) (string, map[string]string) {
		return "retry.submit.slow.call", map[string]string{"ce-id": strconv.Itoa(i)}
	})
	testkit.Eventually(t, 30*time.Second, "operations to hold", func() bool { return holds.Kept() > 0 && requests.Load() > mostInFlight/2 })
	r.submit("retry.submit.well.call", nil, "x")
	if got := r.awaitOutcomes(1, 30*time.Second)[0]; got.Service != "well" || got.Outcome != events.RetrySuccess {
		t.Errorf("the first to end is %s of %s, want the success of the service that is well", got.Outcome, got.Service)
	}
	if n := r.count("RETRY", "retry.held.>"); n > 0 {
		t.Errorf("%d operations of the flood are held by then, want none", n)
	}
	holdAll()
	testkit.Eventually(t, 30*time.Second, "the rest being held", func() bool { return r.count("RETRY", "retry.held.>") > 0 })
}
