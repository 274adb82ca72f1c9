package handlers_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/schemas"
)

// TestSlot_IsARegisterWhileAcknowledgementsAreUnderWay holds back the acknowledgements of due
// messages, so that older messages of an operation stay beside the newest one.
func TestSlot_IsARegisterWhileAcknowledgementsAreUnderWay(t *testing.T) {
	t.Parallel()
	server := testkit.Server(t)
	r := connect(t, server.ClientURL())
	var keeps atomic.Bool
	proxy := testkit.Lossy(t, server.Addr(), func(pub testkit.Publication) testkit.Fate {
		if keeps.Load() && isAck(pub, "rebound-due") {
			return testkit.Keep
		}
		return testkit.Pass
	})
	r.startAt(proxy.URL(), handlers.Config{Policies: policySet(t, guarded)})
	_, calls := r.switched("pay.charge")
	r.act("hold", schemas.BreakerAct{Key: "pay:charge"})
	keeps.Store(true)
	r.submit("retry.submit.pay.charge", event("1", "low"), "x")
	testkit.Eventually(t, 10*time.Second, "the operation to be held, and an acknowledgement under way", func() bool {
		return r.count("RETRY", "retry.held.low.>") == 1 && proxy.Kept() == 1
	})
	if n := r.count("RETRY", "retry.due.>"); n != 1 {
		t.Fatalf("%d due messages stand beside it, want the one whose acknowledgement is under way", n)
	}

	// A second submission finds the newest state: the same attempt changes nothing, a higher one
	// takes its place.
	r.submit("retry.submit.pay.charge", event("1", "low"), "x")
	again := event("1", "critical")
	again["ce-attempt"] = "3"
	r.submit("retry.submit.pay.charge", again, "x")
	testkit.Eventually(t, 10*time.Second, "the operation to be held as critical", func() bool {
		return r.count("RETRY", "retry.held.critical.>") == 1 && r.count("RETRY_INTAKE", ">") == 0 && proxy.Kept() == 2
	})
	if n := r.count("RETRY", "retry.held.>"); n != 1 {
		t.Errorf("%d messages wait in the lanes, want 1", n)
	}
	r.act("reset", schemas.BreakerAct{Key: "pay:charge"})
	o := r.awaitOutcomes(1, 10*time.Second)[0]
	if o.Outcome != events.RetrySuccess || o.Attempts != 4 || calls.Load() != 1 {
		t.Errorf("it ended as %+v after %d calls, want one success at attempt 4", o, calls.Load())
	}

	// What is left of a run that has ended brings nothing back: neither the older messages, once
	// they are the last of their slot, nor a submission that finds them.
	testkit.Eventually(t, 10*time.Second, "the last acknowledgement under way", func() bool { return proxy.Kept() == 3 })
	if n := r.count("RETRY", ">"); n != 3 {
		t.Errorf("%d messages are left of the run, want 3", n)
	}
	r.submit("retry.submit.pay.charge", again, "x")
	testkit.Eventually(t, 10*time.Second, "an empty intake", func() bool { return r.count("RETRY_INTAKE", ">") == 0 })
	keeps.Store(false)
	proxy.Release()
	r.awaitEmpty()
	if calls.Load() != 1 || len(r.outcomes()) != 1 {
		t.Errorf("in the end there are %d calls and %d outcomes, want 1 each", calls.Load(), len(r.outcomes()))
	}
}
