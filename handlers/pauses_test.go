package handlers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/schemas"
)

func (r *rig) pause(request schemas.PauseAdd) schemas.PauseAdded {
	r.t.Helper()
	var added schemas.PauseAdded
	if code, text := r.request("rebound.pause", nil, request, &added); code != "" {
		r.t.Fatalf("pausing %s: %s %s", request.Pattern, code, text)
	}
	return added
}

func (r *rig) resume(pattern string) schemas.PauseEnded {
	r.t.Helper()
	var ended schemas.PauseEnded
	if code, text := r.request("rebound.resume", nil, schemas.PauseEnd{Pattern: pattern, By: "bob"}, &ended); code != "" {
		r.t.Fatalf("resuming %s: %s %s", pattern, code, text)
	}
	return ended
}

// patterns returns what is paused.
func (r *rig) patterns() []string {
	r.t.Helper()
	var list schemas.PauseList
	if code, text := r.request("rebound.pause.list", nil, nil, &list); code != "" {
		r.t.Fatalf("listing the pauses: %s %s", code, text)
	}
	patterns := []string{}
	for _, p := range list.Pauses {
		patterns = append(patterns, p.Pattern.String())
	}
	return patterns
}

// awaitPaused waits until every instance knows of a pause.
func (r *rig) awaitPaused(pattern string) {
	r.t.Helper()
	testkit.Eventually(r.t, 10*time.Second, "all instances knowing of the pause of "+pattern, func() bool {
		for range 30 { // each is answered by one of them
			if !slices.Contains(r.patterns(), pattern) {
				return false
			}
		}
		return true
	})
}

// well is a target that answers every operation with success.
func (r *rig) well(subject string) func() int {
	calls := r.target(subject, func(int, micro.Request) (string, string, micro.Headers) { return "", "", nil })
	return func() int { return int(calls.Load()) }
}

// pauseChanges returns the events of pauses, in order.
func (r *rig) pauseChanges() []events.PauseChange {
	r.t.Helper()
	var all []events.PauseChange
	for _, m := range r.messages("RETRY_OUTCOMES", "retry.event.pauseChanged.rebound.all") {
		if err := schemas.Validate("rebound.pauseChanged.v1", m.Data); err != nil {
			r.t.Errorf("the event %s does not conform: %v", m.Data, err)
		}
		var c events.PauseChange
		if err := json.Unmarshal(m.Data, &c); err != nil {
			r.t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

func TestPauses_KeyIsHeldByAllInstancesAndGoesOnAtOnce(t *testing.T) {
	t.Parallel()
	config := handlers.Config{Policies: policySet(t, quick+"  respectGlobalBackpressure: false\n")}
	r := newRig(t, config, config)
	paused, other := r.well("pay.charge"), r.well("pay.refund")
	added := r.pause(schemas.PauseAdd{Pattern: "pay:charge", By: "ann@ops", Note: "the bank is closed"})
	if added.By != "ann@ops" || added.Note != "the bank is closed" || added.At.IsZero() || added.Replaced {
		t.Errorf("the pause is %+v", added)
	}
	r.awaitPaused("pay:charge")
	const n = 40
	r.submitAll(n, func(i int) (string, map[string]string) {
		return "retry.submit.pay.charge", event(fmt.Sprint("c", i), []string{"critical", "low"}[i%2])
	})
	r.submit("retry.submit.pay.refund", nil, "x")
	r.awaitHeld(n)
	r.awaitOutcomes(1, 10*time.Second)
	if paused() != 0 || other() != 1 {
		t.Errorf("%d operations of the paused key reached the target and %d of the other, want 0 and 1", paused(), other())
	}
	testkit.Eventually(t, 30*time.Second, "the status showing the pause and the paused key", func() bool {
		var status schemas.Status
		r.request("rebound.status", nil, nil, &status)
		if len(status.Pauses) != 1 || status.Held != n {
			t.Fatalf("the status has the pauses %+v and %d held, want pay:charge and %d held", status.Pauses, status.Held, n)
		}
		// The instance that answers may have seen nothing of the key yet.
		return len(status.Gates) > 0 && status.Gates[0].Cause == "paused" && status.Gates[0].Shut
	})
	// Operations whose bound of being held is over come due, and are held again.
	r.fireHeld("pay", "charge")
	r.awaitHeld(n)
	if paused() != 0 {
		t.Errorf("%d operations went when they came due by themselves", paused())
	}

	begun := time.Now()
	if ended := r.resume("pay:charge"); ended.Ended.Note != "the bank is closed" || len(ended.Paused) != 0 {
		t.Errorf("resuming ended %+v", ended)
	}
	testkit.Eventually(t, 10*time.Second, "the held operations going", func() bool { return paused() == n })
	t.Logf("%d held operations went %s after the resume", n, time.Since(begun).Round(time.Millisecond))
	if outcomes := r.awaitOutcomes(n+1, 10*time.Second); len(outcomes) != n+1 {
		t.Errorf("%d outcomes, want %d", len(outcomes), n+1)
	}
	changes := r.pauseChanges()
	if len(changes) != 2 || !changes[0].Paused || changes[0].By != "ann@ops" || changes[1].Paused || changes[1].Cause != events.CauseResumed || changes[1].By != "bob" {
		t.Errorf("the events are %+v, want a pause by ann@ops and its end by bob", changes)
	}
}

// fireHeld makes the held operations of a key due, as the server does when their bound is over.
func (r *rig) fireHeld(service, operation string) {
	r.t.Helper()
	subjects := events.Subjects{}
	for _, m := range r.messages("RETRY", subjects.Lanes(service, operation)) {
		due, slot := subjects.Release(m.Subject)
		out := &nats.Msg{Subject: due, Data: m.Data, Header: nats.Header{}}
		for name, values := range m.Header {
			if !strings.HasPrefix(name, "Nats-") {
				out.Header[name] = values
			}
		}
		out.Header.Set("Nats-Scheduler", m.Subject)
		out.Header.Set("Nats-Expected-Last-Subject-Sequence", fmt.Sprint(m.Sequence))
		out.Header.Set("Nats-Expected-Last-Subject-Sequence-Subject", slot)
		if _, err := r.js.PublishMsg(r.t.Context(), out); err != nil {
			r.t.Fatal(err)
		}
		if err := r.removeHeld(m.Sequence); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *rig) removeHeld(sequence uint64) error {
	stream, err := r.js.Stream(r.t.Context(), "RETRY")
	if err != nil {
		return err
	}
	return stream.DeleteMsg(r.t.Context(), sequence)
}

func TestPauses_SurviveARestartAndEndByTime(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	calls := r.well("pay.charge")
	nc := testkit.Connect(t, r.url)
	s, err := handlers.Start(t.Context(), nc, handlers.Config{Policies: policySet(t, quick), Logger: testkit.Logger(t), Backpressure: unhindered})
	if err != nil {
		t.Fatal(err)
	}
	const length = 10 * time.Second
	added := r.pause(schemas.PauseAdd{Pattern: "pa*:c*", ForMs: events.InMilliseconds(length)})
	r.pause(schemas.PauseAdd{Pattern: "shop"})
	r.submit("retry.submit.pay.charge", nil, "x")
	r.awaitHeld(1)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	r.start(handlers.Config{})
	if got := r.patterns(); !slices.Equal(got, []string{"pa*:c*", "shop"}) {
		t.Errorf("after a restart %v is paused", got)
	}
	testkit.Eventually(t, 30*time.Second, "the operation going when the time is over", func() bool { return calls() == 1 })
	late := time.Since(added.Until)
	if late < 0 {
		t.Errorf("the operation went %s before the end of the pause", -late)
	}
	t.Logf("the operation went %s after the end of the pause", late.Round(time.Millisecond))
	testkit.Eventually(t, 10*time.Second, "the event of the end", func() bool {
		changes := r.pauseChanges()
		return len(changes) == 3 && changes[2].Cause == events.CauseExpired && changes[2].At.Equal(added.Until) && !changes[2].Paused
	})
	if got := r.patterns(); !slices.Equal(got, []string{"shop"}) {
		t.Errorf("after its end %v is paused, want shop", got)
	}
}

func TestPauses_BucketThatIsRemovedIsMadeAnewWithThem(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	calls := r.well("pay.charge")
	a, b := r.start(handlers.Config{}), r.start(handlers.Config{})
	r.pause(schemas.PauseAdd{Pattern: "pay", By: "ann"})
	r.pause(schemas.PauseAdd{Pattern: "shop"})
	r.resume("shop")
	if err := r.js.DeleteKeyValue(t.Context(), "RETRY_PAUSES"); err != nil {
		t.Fatal(err)
	}
	stored := func() bool {
		kv, err := r.js.KeyValue(t.Context(), "RETRY_PAUSES")
		if err != nil {
			return false
		}
		keys, err := kv.Keys(t.Context())
		return err == nil && slices.Equal(keys, []string{"pay"})
	}
	testkit.Eventually(t, 20*time.Second, "the pause being in the new bucket", stored)
	awaitReady(t, a, 15*time.Second)
	awaitReady(t, b, 15*time.Second)
	r.submit("retry.submit.pay.charge", nil, "x")
	r.awaitHeld(1)
	testkit.Eventually(t, 10*time.Second, "the pause being removable", func() bool {
		code, _ := r.request("rebound.resume", nil, schemas.PauseEnd{Pattern: "pay"}, nil)
		return code == ""
	})
	testkit.Eventually(t, 10*time.Second, "the operation going", func() bool { return calls() == 1 })
	// The other instance hears of the resume a moment later.
	testkit.Eventually(t, 10*time.Second, "nothing being paused after the resume", func() bool { return len(r.patterns()) == 0 })
}

func TestPauses_RequestsThatMakeNoSenseAreRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{})
	r.pause(schemas.PauseAdd{Pattern: "billing"})
	for _, c := range []struct {
		name, endpoint string
		request        any
		code, want     string
	}{
		{"no pattern", "pause", schemas.PauseAdd{}, "400", "empty service; a pattern is a key (billing:charge)"},
		{"a wildcard of another kind", "pause", schemas.PauseAdd{Pattern: "bill?:*"}, "400", `the service of pattern "bill?:*" is none`},
		{"a subject", "pause", schemas.PauseAdd{Pattern: "billing.charge"}, "400", "a pattern is a key"},
		{"too long a note", "pause", schemas.PauseAdd{Pattern: "a", Note: strings.Repeat("x", 501)}, "400", "more than the 500 allowed"},
		{"a time that has passed", "pause", schemas.PauseAdd{Pattern: "a", ForMs: -1}, "400", "forMs is -1"},
		{"a field that is unknown", "pause", []byte(`{"pattern":"a","for":"1h"}`), "400", "for"},
		{"what was never paused", "resume", schemas.PauseEnd{Pattern: "shop"}, "404", "shop is not paused"},
		{"a key of a paused service", "resume", schemas.PauseEnd{Pattern: "billing:charge"}, "404", "billing:charge by itself is not paused; it is held by the pause of billing"},
	} {
		if code, text := r.request("rebound."+c.endpoint, nil, c.request, nil); code != c.code || !strings.Contains(text, c.want) {
			t.Errorf("%s is answered with %s %q, want %s and %q", c.name, code, text, c.code, c.want)
		}
	}
	r.pause(schemas.PauseAdd{Pattern: "bill*"})
	again := r.pause(schemas.PauseAdd{Pattern: "billing:*", Note: "another"})
	if !again.Replaced || again.Pattern.String() != "billing" {
		t.Errorf("pausing billing:* gives %+v, want billing replaced", again)
	}
	if ended := r.resume("billing"); len(ended.Paused) != 1 || ended.Paused[0].Pattern.String() != "bill*" {
		t.Errorf("resuming billing names %+v as still paused, want bill*", ended.Paused)
	}
}

func TestPauses_EntryThatCannotBeReadHoldsNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{})
	r.pause(schemas.PauseAdd{Pattern: "shop"})
	kv, err := r.js.KeyValue(t.Context(), "RETRY_PAUSES")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), "billing", []byte("{")); err != nil {
		t.Fatal(err)
	}
	r.pause(schemas.PauseAdd{Pattern: "pay"})
	if got := r.patterns(); !slices.Equal(got, []string{"pay", "shop"}) {
		t.Errorf("%v is paused, want pay and shop", got)
	}
	if r.resume("billing"); !slices.Equal(r.patterns(), []string{"pay", "shop"}) {
		t.Errorf("%v is paused after the resume, want pay and shop", r.patterns())
	}
}

func TestPauses_PublishIsHeldAndAnAttemptInFlightEndsAsItDoes(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{})
	if _, err := r.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "JOBS", Subjects: []string{"jobs.>"}}); err != nil {
		t.Fatal(err)
	}
	entered, leave := make(chan struct{}), make(chan struct{})
	var once sync.Once
	r.target("pay.charge", func(int, micro.Request) (string, string, micro.Headers) {
		once.Do(func() { close(entered) })
		<-leave
		return "", "", nil
	})
	r.submit("retry.submit.pay.charge", nil, "x")
	<-entered
	r.pause(schemas.PauseAdd{Pattern: "*"})
	r.submit("retry.submit.pay.job", map[string]string{"ce-delivery": "publish", "ce-target": "jobs.x"}, "x")
	r.awaitHeld(1)
	close(leave)
	if outcome := r.awaitOutcomes(1, 10*time.Second)[0]; outcome.Reason != "" {
		t.Errorf("the attempt in flight ended by %s, want in success", outcome.Reason)
	}
	if n := r.count("JOBS", "jobs.>"); n != 0 {
		t.Errorf("%d jobs were published while all is paused", n)
	}
	r.resume("*")
	testkit.Eventually(t, 10*time.Second, "the job being published", func() bool { return r.count("JOBS", "jobs.>") == 1 })
}

func TestPauses_DeadlineEndsAPausedOperation(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{})
	calls := r.well("pay.charge")
	r.pause(schemas.PauseAdd{Pattern: "pay"})
	r.submit("retry.submit.pay.charge", map[string]string{"ce-deadline": time.Now().Add(2 * time.Second).UTC().Format(time.RFC3339Nano)}, "x")
	outcome := r.awaitOutcomes(1, 20*time.Second)[0]
	if outcome.Reason != events.ReasonDeadline || calls() != 0 {
		t.Errorf("the operation ended by %s after %d calls, want by its deadline after none", outcome.Reason, calls())
	}
}

func TestPauses_MaxElapsedTimeEndsNoPausedOperation(t *testing.T) {
	t.Parallel()
	const mayElapse = 10 * time.Second
	r := newRig(t, handlers.Config{Policies: policySet(t, quick+"  maxElapsedTime: "+mayElapse.String()+"\nanalytics: {baseDelay: 20ms}\n")})
	r.submit("retry.submit.pay.charge", nil, "x")
	// Nobody listens, so the operation is in hand as the prober of its target.
	r.submit("retry.submit.pay.charge", nil, "y")
	r.pause(schemas.PauseAdd{Pattern: "pay"})
	submitted := time.Now()
	r.awaitHeld(2)
	testkit.Eventually(t, 2*mayElapse, "maxElapsedTime being over", func() bool { return time.Since(submitted) > mayElapse })
	r.fireHeld("pay", "charge")
	r.awaitHeld(2)
	if outcomes := r.outcomes(); len(outcomes) != 0 {
		t.Errorf("the paused operations ended: %+v", outcomes)
	}
	r.resume("pay")
	// Nobody listens yet; what waits for that had no time to do so yet.
	testkit.Eventually(t, 10*time.Second, "the operations waiting for their target", func() bool {
		var status schemas.Status
		r.request("rebound.status", nil, nil, &status)
		return len(status.Gates) > 0 && status.Gates[0].Cause == "absent"
	})
	calls := r.well("pay.charge")
	for _, o := range r.awaitOutcomes(2, 20*time.Second) {
		if o.Reason != "" {
			t.Errorf("after the resume an operation ended by %s: %s", o.Reason, o.Detail)
		}
	}
	if calls() != 2 {
		t.Errorf("the target was called %d times, want 2", calls())
	}
}

func TestPauses_SurviveTheLossOfAServerOfACluster(t *testing.T) {
	t.Parallel()
	cluster := testkit.Cluster(t, 3)
	r := connect(t, cluster.URL())
	config := handlers.Config{Policies: policySet(t, quick), Limits: streams.Limits{Replicas: 3}}
	r.start(config)
	r.start(config)
	calls := r.well("pay.charge")
	r.pause(schemas.PauseAdd{Pattern: "pay"})
	r.awaitPaused("pay")
	testkit.Eventually(t, 30*time.Second, "a submission being stored", func() bool { return r.trySubmit("retry.submit.pay.charge", "1") })
	r.awaitHeld(1)
	leader := -1
	testkit.Eventually(t, 30*time.Second, "the bucket having a leader", func() bool {
		leader = r.leader("KV_RETRY_PAUSES")
		return leader >= 0
	})
	cluster.Stop(leader)
	testkit.Eventually(t, time.Minute, "the key being resumed by the servers that are left", func() bool {
		m, err := r.nc.Request("rebound.resume", []byte(`{"pattern":"pay"}`), 5*time.Second)
		if err != nil {
			return false
		}
		code := m.Header.Get(micro.ErrorCodeHeader)
		return code == "" || code == "404" // an earlier try may have succeeded
	})
	testkit.Eventually(t, time.Minute, "the held operation going", func() bool { return calls() > 0 })
}
