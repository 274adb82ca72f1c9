package handlers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/schemas"
)

// guarded is a policy with a breaker whose operations are due at once.
const guarded = `
default:
  maxAttempts: 50
  baseDelay: 10ms
  maxDelay: 20ms
  backoffStrategy: fixed
  jitterType: none
  attemptTimeout: 20s
  enableCircuitBreaker: true
  circuitBreakerThreshold: 5
  circuitBreakerTimeout: 1s
`

// switched is a target that fails while it is down.
type switched struct {
	down atomic.Bool
	mu   sync.Mutex
	ids  []string // of the attempts that succeeded, in order; guarded by mu
}

func (r *rig) switched(subject string) (*switched, *atomic.Int64) {
	r.t.Helper()
	s := &switched{}
	calls := r.target(subject, func(_ int, req micro.Request) (string, string, micro.Headers) {
		if s.down.Load() {
			return "503", "down", nil
		}
		s.mu.Lock()
		s.ids = append(s.ids, req.Headers().Get("ce-id"))
		s.mu.Unlock()
		return "", "", nil
	})
	return s, calls
}

func (s *switched) order() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ids)
}

func event(id, priority string) map[string]string {
	return map[string]string{"ce-specversion": "1.0", "ce-id": id, "ce-source": "/s", "ce-type": events.TypeFailed, "ce-priority": priority}
}

// lastSequence returns how many messages the stream of waiting operations has ever
// stored.
func (r *rig) lastSequence() uint64 {
	r.t.Helper()
	s, err := r.js.Stream(context.Background(), "RETRY")
	if err != nil {
		r.t.Fatal(err)
	}
	return s.CachedInfo().State.LastSeq
}

func (r *rig) breaker(key string) schemas.BreakerShown {
	r.t.Helper()
	var shown schemas.BreakerShown
	if code, text := r.request("rebound.breaker.show", nil, schemas.BreakerShow{Key: key}, &shown); code != "" {
		r.t.Fatalf("showing the breaker of %s: %s %s", key, code, text)
	}
	return shown
}

// act has an operator act on a breaker, again if the service could not reach the store meanwhile:
// what one instance does alone the others do not know.
func (r *rig) act(what string, act schemas.BreakerAct) (acted schemas.BreakerActed) {
	r.t.Helper()
	testkit.Eventually(r.t, 20*time.Second, fmt.Sprintf("all instances knowing of the %s of %s", what, act.Key), func() bool {
		acted = schemas.BreakerActed{}
		if code, text := r.request("rebound.breaker."+what, nil, act, &acted); code != "" {
			r.t.Fatalf("%s of breaker %s: %s %s", what, act.Key, code, text)
		}
		return !acted.ThisInstanceOnly
	})
	return acted
}

func TestLanes_BreakerOpensAndTheRestIsHeldUntilTheTargetIsHealthy(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, guarded)})
	target, calls := r.switched("pay.charge")
	target.down.Store(true)
	for i := range 5 {
		r.submit("retry.submit.pay.charge", event(strconv.Itoa(i), "normal"), "x")
	}
	testkit.Eventually(t, 10*time.Second, "the breaker to open", func() bool {
		var status schemas.Status
		r.request("rebound.status", nil, nil, &status)
		return len(status.Breakers) == 1 && status.Breakers[0].ServiceKey == "pay:charge"
	})
	if n := calls.Load(); n < 5 || n > 10 {
		t.Errorf("the target was called %d times before the breaker had opened, want about 5", n)
	}
	before := calls.Load()
	r.submit("retry.submit.pay.charge", event("late", "normal"), "x")
	target.down.Store(false)
	r.awaitOutcomes(6, 20*time.Second)
	r.awaitEmpty()
	if n := calls.Load() - before; n < 6 || n > 12 {
		t.Errorf("the target was called %d times for the last attempts of 6 operations", n)
	}
	var seen []string
	for _, m := range r.messages("RETRY_OUTCOMES", "retry.event.breakerChanged.>") {
		var c events.BreakerChange
		if err := json.Unmarshal(m.Data, &c); err != nil {
			t.Fatal(err)
		}
		if err := schemas.Validate(m.Header.Get("ce-type"), m.Data); err != nil {
			t.Errorf("event %s breaks its schema: %v\n%s", m.Subject, err, m.Data)
		}
		seen = append(seen, c.From+" to "+c.To+" by "+c.Cause)
	}
	want := []string{"CLOSED to OPEN by failures", "OPEN to HALF_OPEN by timeout", "HALF_OPEN to CLOSED by probes_succeeded"}
	if !slices.Equal(seen, want) {
		t.Errorf("the published changes are %q, want %q", seen, want)
	}
}

func TestLanes_HeldOperationsAreWrittenOnceAndLeaveByPriorityAndAge(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, guarded)})
	target, calls := r.switched("pay.charge")
	r.act("hold", schemas.BreakerAct{Key: "pay:charge", Note: "being moved"})

	// They are due at once: a submission takes at most three writes, one of them into
	// its lane.
	const each = 40
	for i := range each {
		for _, p := range []string{"low", "normal", "critical", "high"} {
			r.submit("retry.submit.pay.charge", event(fmt.Sprintf("%s-%03d", p, i), p), "x")
		}
	}
	testkit.Eventually(t, 20*time.Second, "all to be held", func() bool { return r.count("RETRY", "retry.held.>") == 4*each })
	testkit.Eventually(t, 5*time.Second, "nothing to be due", func() bool { return r.count("RETRY", "retry.due.>") == 0 })
	written := r.lastSequence()
	if written != 8*each {
		t.Errorf("%d messages were written for %d held operations, want 2 each: due and held", written, 4*each)
	}
	if n := r.breaker("pay:charge").HeldOperations; n != 4*each {
		t.Errorf("the breaker is said to hold %d operations, want %d", n, 4*each)
	}
	var status schemas.Status
	r.request("rebound.status", nil, nil, &status)
	if status.Held != 4*each || status.Parked != 0 || len(status.Breakers) != 1 || !status.Breakers[0].Held || !status.Coordination.Shared {
		t.Errorf("the status is %+v, want %d held and the breaker", status, 4*each)
	}
	<-time.After(time.Second)
	if now := r.lastSequence(); now != written || calls.Load() != 0 {
		t.Errorf("while the gate was shut %d more messages were written and %d attempts made, want none", now-written, calls.Load())
	}

	r.act("reset", schemas.BreakerAct{Key: "pay:charge"})
	r.awaitOutcomes(4*each, 20*time.Second)
	r.awaitEmpty()
	if n := calls.Load(); n != 4*each {
		t.Errorf("%d attempts were made for %d operations", n, 4*each)
	}
	// Operations that are let out together arrive in any order. They are those of a tenth of a
	// second at the governor's rate, which has grown beyond this when only low ones are left.
	const together = 32
	came, sum, early := map[string]int{}, map[string]int{}, map[string]int{}
	for i, id := range target.order() {
		p, number, _ := strings.Cut(id, "-")
		if want := fmt.Sprintf("%03d", came[p]); p != "low" && number > fmt.Sprintf("%03d", came[p]+together) {
			t.Errorf("operation %s came where %s of its priority was to come", id, want)
		}
		came[p]++
		sum[p] += i
		if i < each {
			early[p]++
		}
	}
	if !slices.IsSorted([]int{sum["critical"], sum["high"], sum["normal"], sum["low"]}) {
		t.Errorf("the sums of the places by priority are %v, want the more urgent to come first", sum)
	}
	if early["critical"] < each/2 || early["high"] == 0 || early["normal"] == 0 {
		t.Errorf("of the first %d there are %v of each priority, want most critical and a share for the others", each, early)
	}
}

func TestLanes_SecondSubmissionOfAHeldOperationMerges(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, guarded)})
	target, calls := r.switched("pay.charge")
	r.act("hold", schemas.BreakerAct{Key: "pay:charge"})
	r.submit("retry.submit.pay.charge", event("1", "low"), "x")
	testkit.Eventually(t, 10*time.Second, "the operation to be held", func() bool { return r.count("RETRY", "retry.held.low.>") == 1 })

	// The same attempt again changes nothing; a higher one takes its place, under
	// another priority.
	r.submit("retry.submit.pay.charge", event("1", "low"), "x")
	again := event("1", "critical")
	again["ce-attempt"] = "3"
	r.submit("retry.submit.pay.charge", again, "x")
	testkit.Eventually(t, 10*time.Second, "the operation to be held as critical", func() bool {
		return r.count("RETRY", "retry.held.critical.>") == 1 && r.count("RETRY_INTAKE", ">") == 0
	})
	// The due message that led to it stays until its acknowledgement has arrived.
	testkit.Eventually(t, 10*time.Second, "one message standing for the operation", func() bool { return r.count("RETRY", ">") == 1 })
	r.act("reset", schemas.BreakerAct{Key: "pay:charge"})
	o := r.awaitOutcomes(1, 10*time.Second)[0]
	r.awaitEmpty()
	if o.Outcome != events.RetrySuccess || o.Attempts != 4 || calls.Load() != 1 || len(target.order()) != 1 {
		t.Errorf("it ended as %+v after %d calls, want one success at attempt 4", o, calls.Load())
	}
}

func TestLanes_HeldOperationEndsAtItsDeadline(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, guarded)})
	_, calls := r.switched("pay.charge")
	r.act("hold", schemas.BreakerAct{Key: "pay:charge"})
	h := event("1", "normal")
	deadline := time.Now().Add(5 * time.Second)
	h["ce-deadline"] = deadline.UTC().Format(time.RFC3339Nano)
	held := r.overhear("retry.held.>")
	r.submit("retry.submit.pay.charge", h, "x")
	if at := r.fires(held); !at.Equal(deadline) {
		t.Errorf("while it is held it comes due by itself at %v, want at its deadline, %v", at, deadline)
	}
	o := r.awaitOutcomes(1, 30*time.Second)[0]
	r.awaitEmpty()
	if o.Outcome != events.RetryFailed || o.Reason != events.ReasonDeadline || calls.Load() != 0 {
		t.Errorf("it ended as %+v after %d calls, want retryFailed for its deadline and no call", o, calls.Load())
	}
	if o.EndedAt.Before(deadline) {
		t.Errorf("it ended %s before its deadline", deadline.Sub(o.EndedAt))
	}
}

func TestBreakers_DecisionsTakenWhileOneIsOpenDelayPastItsNextAttempt(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, guarded)})
	_, _ = r.switched("pay.charge")
	acted := r.act("trip", schemas.BreakerAct{Key: "pay:charge", ForMs: 3_600_000, Note: "for an hour"})
	if acted.State.String() != "OPEN" || acted.Note != "for an hour" {
		t.Errorf("the tripped breaker is %+v", acted)
	}
	r.submit("retry.submit.pay.charge", nil, "x")
	testkit.Eventually(t, 10*time.Second, "the operation to be parked", func() bool { return r.count("RETRY", "retry.parked.>") == 1 })
	testkit.Eventually(t, 10*time.Second, "the decision to be published", func() bool { return r.count("RETRY_OUTCOMES", "retry.event.retryScheduled.>") == 1 })
	var s events.Scheduled
	m := r.messages("RETRY_OUTCOMES", "retry.event.retryScheduled.>")[0]
	if err := json.Unmarshal(m.Data, &s); err != nil {
		t.Fatal(err)
	}
	if past := s.Due.Sub(acted.NextAttemptTime); past < 0 || past > time.Second || s.GateMs < 3_590_000 {
		t.Errorf("the operation is due %s after the breaker's next attempt, of which %v ms wait for the gate; want 10ms and about an hour", past, s.GateMs)
	}
	if err := schemas.Validate("rebound.retryScheduled.v1", m.Data); err != nil {
		t.Error(err)
	}
}

func TestLanes_InstanceLetsOutWhatOneThatStoppedHasHeld(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first := r.start(handlers.Config{Policies: policySet(t, guarded)})
	_, _ = r.switched("pay.charge")
	r.act("hold", schemas.BreakerAct{Key: "pay:charge"})
	for i := range 10 {
		r.submit("retry.submit.pay.charge", event(strconv.Itoa(i), "normal"), "x")
	}
	testkit.Eventually(t, 10*time.Second, "all to be held", func() bool { return r.count("RETRY", "retry.held.>") == 10 })
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := first.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	r.start(handlers.Config{Policies: policySet(t, guarded)})
	if got := r.breaker("pay:charge"); !got.Held {
		t.Errorf("after a restart the breaker is %+v, want it still held", got)
	}
	r.act("reset", schemas.BreakerAct{Key: "pay:charge"})
	r.awaitOutcomes(10, 20*time.Second)
	r.awaitEmpty()
}

// TestLanes_InstancesLetTheSameOutSideBySide lets two instances let out lanes of many
// pages at once.
func TestLanes_InstancesLetTheSameOutSideBySide(t *testing.T) {
	t.Parallel()
	config := handlers.Config{Policies: policySet(t, guarded)}
	r := newRig(t, config, config)
	_, calls := r.switched("pay.charge")
	r.hold("pay:charge")
	const each = 600
	r.submitAll(2*each, func(i int) (string, map[string]string) {
		return "retry.submit.pay.charge", event(fmt.Sprint(i), []string{"normal", "low"}[i%2])
	})
	testkit.Eventually(t, 30*time.Second, "all to be held", func() bool { return r.count("RETRY", "retry.held.>") == 2*each })
	r.act("reset", schemas.BreakerAct{Key: "pay:charge"})
	r.awaitOutcomes(2*each, 60*time.Second)
	r.awaitEmpty()
	if n := calls.Load(); n != 2*each {
		t.Errorf("%d attempts were made for %d held operations, want one each", n, 2*each)
	}
}

func TestLanes_ForeignMessageIsBuried(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, guarded)})
	_, _ = r.switched("pay.charge")
	r.act("hold", schemas.BreakerAct{Key: "pay:charge"})
	r.submit("retry.submit.pay.charge", event("1", "normal"), "x")
	r.submit("retry.held.normal.pay.charge."+strings.Repeat("0", 32), nil, "junk")
	testkit.Eventually(t, 10*time.Second, "both to be held", func() bool { return r.count("RETRY", "retry.held.>") == 2 })
	r.act("reset", schemas.BreakerAct{Key: "pay:charge"})
	r.awaitOutcomes(2, 10*time.Second)
	r.awaitEmpty()
	if letters := r.deadLetters(); len(letters) != 1 || letters[0].Reason != events.ReasonRejected || string(letters[0].Data) != "junk" {
		t.Errorf("the dead letters are %+v, want the one that was none of ours", letters)
	}
}

// TestLanes_PartialFailureBeforeAnOutageStrandsNothing lets failures stand in the governor's
// round when the breaker opens, and much be parked and held by the time it closes.
func TestLanes_PartialFailureBeforeAnOutageStrandsNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, `
default:
  maxAttempts: 100
  baseDelay: 200ms
  maxDelay: 30s
  jitterType: equal
  enableCircuitBreaker: true
  circuitBreakerThreshold: 8
  circuitBreakerTimeout: 1s
`)})
	const well, partial, down = 0, 1, 2
	var health atomic.Int64
	r.target("pay.charge", func(call int, _ micro.Request) (string, string, micro.Headers) {
		if h := health.Load(); h == down || h == partial && call%2 == 0 {
			return "503", "down", nil
		}
		return "", "", nil
	})
	submitted := 0
	submitFor := func(d, pause time.Duration) {
		ticker := time.NewTicker(pause)
		defer ticker.Stop()
		for end := time.Now().Add(d); time.Now().Before(end); <-ticker.C {
			r.submit("retry.submit.pay.charge", event(strconv.Itoa(submitted), events.Priorities[submitted%4].String()), "x")
			submitted++
		}
	}
	health.Store(partial)
	submitFor(3*time.Second, 20*time.Millisecond)
	<-time.After(2 * time.Second) // nothing is submitted
	health.Store(down)
	submitFor(4*time.Second, 50*time.Millisecond)
	health.Store(well)
	began := time.Now()
	for _, o := range r.awaitOutcomes(submitted, 25*time.Second) {
		if o.Outcome != events.RetrySuccess {
			t.Errorf("%s ended in %s by %s, want success", o.EventID, o.Outcome, o.Reason)
		}
	}
	t.Logf("%d operations had ended %v after the target was well", submitted, time.Since(began).Round(100*time.Millisecond))
	r.awaitEmpty()
}
