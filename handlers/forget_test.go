package handlers_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/schemas"
)

// stored counts the messages of a stream.
func (r *rig) stored(stream string) uint64 {
	r.t.Helper()
	s, err := r.js.Stream(r.t.Context(), stream)
	if err != nil {
		r.t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

// logStored logs the messages of a stream.
func (r *rig) logStored(stream string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s, err := r.js.Stream(ctx, stream)
	for sequence := uint64(1); err == nil; sequence++ {
		var m *jetstream.RawStreamMsg
		if m, err = s.GetMsg(ctx, sequence, jetstream.WithGetMsgSubject(">")); err == nil {
			r.t.Logf("%s of %s ago: %v %s", m.Subject, time.Since(m.Time), m.Header, m.Data)
			sequence = m.Sequence
		}
	}
	r.t.Logf("that was the last: %v", err)
}

// TestService_KeysThatAreNotUsedAreForgotten completes operations of many keys and waits
// until the instance, its metrics and the stores forget them.
func TestService_KeysThatAreNotUsedAreForgotten(t *testing.T) {
	t.Parallel()
	const keys, open = 300, 30
	r := newRig(t)
	s := r.start(handlers.Config{
		ForgetIdleAfter: 5 * time.Second,
		Policies:        policySet(t, `default: {maxAttempts: 3, baseDelay: 1ms, enableCircuitBreaker: true, maxConcurrentRetries: 100}`),
	})
	m := newScraper(t, s)
	r.parallel("*.many", func(req micro.Request) { _ = req.Respond(nil) })
	r.submitAll(2*keys, func(i int) (string, map[string]string) { return fmt.Sprintf("retry.submit.s%d.many", i%keys), nil })
	most := 0
	testkit.Eventually(t, 3*time.Minute, "every operation having ended", func() bool {
		most = max(most, len(m.text()))
		return r.count("RETRY_OUTCOMES", "retry.outcome.>") == 2*keys
	})
	if most > 1<<20 {
		t.Errorf("a scrape had %d bytes, want less than a mebibyte", most)
	}
	for i := range open {
		r.act("hold", schemas.BreakerAct{Key: fmt.Sprintf("s%d:many", i), Note: "until it is well"})
	}
	var status schemas.Status
	r.request("rebound.status", nil, nil, &status)
	if len(status.Breakers) != 20 || status.BreakerCounts.Held != open || !status.Breakers[0].Held {
		t.Errorf("the status tells of %d breakers and counts %+v, want 20 of %d", len(status.Breakers), status.BreakerCounts, open)
	}

	testkit.Eventually(t, 5*time.Minute, "all but the open breakers being forgotten", func() bool {
		status = schemas.Status{}
		r.request("rebound.status", nil, nil, &status)
		return status.BreakerCounts == breaker.Counts{Open: open, Held: open}
	})
	var breakers, ledgers uint64
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("when last asked, the stores had %d breakers, want %d, and %d ledgers, want 0", breakers, open, ledgers)
			r.logStored("KV_RETRY_LEDGERS")
		}
	})
	testkit.Eventually(t, 5*time.Minute, "the stores having forgotten them", func() bool {
		breakers, ledgers = r.stored("KV_RETRY_BREAKERS"), r.stored("KV_RETRY_LEDGERS")
		return breakers == open && ledgers == 0
	})
	testkit.Eventually(t, 5*time.Minute, "the metrics of the keys being dropped", func() bool {
		return bytes.Count(m.text(), []byte(`operation="many"`)) <= 10*open
	})

	var list schemas.BreakerList
	r.request("rebound.breaker.list", nil, schemas.BreakerQuery{Limit: 10, ByKey: true, After: "s0:many"}, &list)
	if len(list.Breakers) != 10 || list.Next != list.Breakers[9].ServiceKey || list.Counts.Held != open {
		t.Errorf("the list after the first has %d breakers, goes on after %q and counts %+v", len(list.Breakers), list.Next, list.Counts)
	}
	code, problem := r.request("rebound.breaker.list", nil, schemas.BreakerQuery{Limit: 1001}, nil)
	if code != "400" {
		t.Errorf("a list of 1001 is answered with %q %q, want 400", code, problem)
	}

	// Keys that come back: one is new, one has an open breaker.
	r.submit("retry.submit.s1000.many", nil, "x")
	r.submit("retry.submit.s0.many", nil, "x")
	testkit.Eventually(t, time.Minute, "the one having ended and the other being held", func() bool {
		return r.count("RETRY_OUTCOMES", "retry.outcome.>") == 2*keys+1 && r.count("RETRY", "retry.held.>") == 1
	})
}
