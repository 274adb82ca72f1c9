package handlers_test

import (
	"context"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/testkit"
)

// deliveries returns how often the server says that it delivered what an acknowledgement is of.
func deliveries(ack testkit.Publication) int {
	// $JS.ACK.<stream>.<consumer>.<delivered>.<sequence>.<consumer sequence>.<time>.<pending>, of
	// which newer servers put two tokens in front of the stream and one at the end.
	tokens := strings.Split(ack.Subject, ".")
	at := 4
	if len(tokens) > 9 {
		at = 6
	}
	n, err := strconv.Atoi(tokens[min(at, len(tokens)-1)])
	if err != nil {
		return 0
	}
	return n
}

func TestService_StopLeavesNothingToDeliverAgain(t *testing.T) {
	t.Parallel()
	const n = 200
	server := testkit.Server(t)
	r := connect(t, server.ClientURL())
	var acks, again atomic.Int64
	proxy := testkit.Lossy(t, server.Addr(), func(pub testkit.Publication) testkit.Fate {
		if isAck(pub, "") {
			acks.Add(1)
			if deliveries(pub) != 1 {
				again.Add(1)
			}
		}
		return testkit.Pass
	})
	// What comes due in less than half a second waits in hand. No lease ends during the test.
	config := handlers.Config{Lease: 10 * time.Minute, Policies: policySet(t, strings.Replace(everyWay, "baseDelay: 20ms", "baseDelay: 490ms", 1))}
	first, _ := r.startAt(proxy.URL(), config)
	w := newWitness()
	r.witness(w)
	r.submitAll(n, func(i int) (string, map[string]string) {
		return "retry.submit.immediate.op", event(strconv.Itoa(i), "normal")
	})
	testkit.Eventually(t, 20*time.Second, "operations in hand", func() bool { return r.count("RETRY", "retry.due.>") > 0 })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := first.Stop(ctx); err != nil {
		t.Fatalf("stopping an instance: %v", err)
	}
	left := r.count("RETRY", ">") + r.count("RETRY_INTAKE", ">")
	r.startAt(proxy.URL(), config)
	for _, o := range r.awaitOutcomes(n, 30*time.Second) {
		if o.Outcome != events.RetrySuccess {
			t.Errorf("operation %s ended as %s, want a success", o.EventID, o.Outcome)
		}
	}
	r.awaitEmpty()
	t.Logf("%d of %d operations were left to the next instance; %d acknowledgements", left, n, acks.Load())
	if again.Load() > 0 {
		t.Errorf("%d messages were delivered again, want none", again.Load())
	}
	if attempts, _, _ := w.counts(); attempts != n {
		t.Errorf("the target got %d attempts, want one of each of %d", attempts, n)
	}
}
