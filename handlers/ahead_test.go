package handlers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/schemas"
)

// parkForAnHour is a policy under which submissions are taken in and nothing is attempted.
const parkForAnHour = `
default: {maxAttempts: 5, baseDelay: 1h, maxDelay: 2h, backoffStrategy: fixed, jitterType: none}
`

// order records the order in which submissions were taken in.
type order struct {
	mu    sync.Mutex // guards the fields below
	flood int        // how many of the service flood
	// others maps the event ids of the other service to how many of the flood were
	// taken in before.
	others map[string]int
}

// follow records in which order submissions are taken in.
func (r *rig) follow() *order {
	r.t.Helper()
	o := &order{others: make(map[string]int)}
	consumer, err := r.js.OrderedConsumer(r.t.Context(), "RETRY_OUTCOMES", jetstream.OrderedConsumerConfig{FilterSubjects: []string{"retry.event.retryScheduled.>"}})
	if err != nil {
		r.t.Fatal(err)
	}
	following, err := consumer.Consume(func(m jetstream.Msg) {
		var event events.Scheduled
		if err := json.Unmarshal(m.Data(), &event); err != nil || event.Attempt > 1 {
			return
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		if event.Service == "flood" {
			o.flood++
			return
		}
		if _, known := o.others[event.EventID]; !known {
			o.others[event.EventID] = o.flood
		}
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		following.Stop()
		<-following.Closed()
	})
	return o
}

func (o *order) taken() (flood, others int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.flood, len(o.others)
}

// latest returns how many of the flood were taken in before the last of the others.
func (o *order) latest() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for _, before := range o.others {
		n = max(n, before)
	}
	return n
}

// floodWith submits n operations of the service flood, and behind them others of the
// service small.
func (r *rig) floodWith(n, others int) {
	r.t.Helper()
	r.submitAll(n, func(i int) (string, map[string]string) {
		return "retry.submit.flood.op", event("f"+strconv.Itoa(i), "normal")
	})
	r.submitAll(others, func(i int) (string, map[string]string) {
		return "retry.submit.small.op", event("s"+strconv.Itoa(i), "normal")
	})
}

// awaitServing waits until an instance sees n instances serving.
func (r *rig) awaitServing(n int) {
	r.t.Helper()
	testkit.Eventually(r.t, 30*time.Second, fmt.Sprintf("%d instances to serve", n), func() bool {
		var shown schemas.Coordination
		if code, _ := r.request("rebound.coordination", nil, nil, &shown); code != "" {
			return false
		}
		serving := 0
		for _, i := range shown.Instances {
			if i.State == events.InstanceServing {
				serving++
			}
		}
		return serving == n
	})
}

func TestAhead_FloodOfOneServiceLetsOthersThrough(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, parkForAnHour)})
	r.awaitServing(1)
	taken := r.follow()
	const n, others = 20_000, 50
	r.floodWith(n, others)
	testkit.Eventually(t, 2*time.Minute, "the other service's submissions to be taken in", func() bool {
		_, small := taken.taken()
		return small == others
	})
	if before := taken.latest(); before > n/2 {
		t.Errorf("%d of the %d submissions of the flood were taken in before those of the other service, want few", before, n)
	}
	testkit.Eventually(t, 3*time.Minute, "everything to be parked", func() bool {
		return r.count("RETRY_INTAKE", ">") == 0 && r.count("RETRY", "retry.parked.>") == n+others
	})
}

func TestAhead_ThreeInstancesOnAClusterEndEachOperationOnce(t *testing.T) {
	t.Parallel()
	cluster := testkit.Cluster(t, 3)
	r := connect(t, cluster.URL())
	config := handlers.Config{Limits: streams.Limits{Replicas: 3}, Policies: policySet(t, `
default: {maxAttempts: 5, baseDelay: 10ms, maxDelay: 1s, backoffStrategy: fixed, jitterType: none, attemptTimeout: 10m}
`)}
	for range 3 {
		r.start(config)
	}
	r.awaitServing(3)
	var mu sync.Mutex
	attempts := make(map[string]int)
	for _, service := range []string{"flood", "small"} {
		r.target(service+".op", func(_ int, req micro.Request) (string, string, micro.Headers) {
			mu.Lock()
			defer mu.Unlock()
			if req.Headers().Get(events.HeaderRepeated) == "" {
				attempts[req.Headers().Get("ce-id")]++
			}
			return "", "", nil
		})
	}
	const n, others = 2000, 100
	r.floodWith(n, others)
	testkit.Eventually(t, 5*time.Minute, "an outcome for every operation", func() bool {
		return r.count("RETRY_OUTCOMES", "retry.outcome.>") >= n+others
	})
	testkit.Eventually(t, time.Minute, "an empty intake and nothing waiting", func() bool {
		return r.count("RETRY_INTAKE", ">") == 0 && r.count("RETRY", ">") == 0
	})
	if got := r.count("RETRY_OUTCOMES", "retry.outcome.>"); got != n+others {
		t.Errorf("%d operations have %d outcomes", n+others, got)
	}
	mu.Lock()
	defer mu.Unlock()
	for id, made := range attempts {
		if made != 1 {
			t.Errorf("operation %s was attempted %d times without the mark of a repeat", id, made)
		}
	}
}

// TestAhead_WorksBesideWhatAnOlderInstanceLeft has a consumer that an older instance made,
// and holders that died with messages in hand.
func TestAhead_WorksBesideWhatAnOlderInstanceLeft(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx := t.Context()
	if err := streams.Ensure(ctx, r.js, streams.Configs(events.Streams{}, streams.Limits{})); err != nil {
		t.Fatal(err)
	}
	consumer, err := r.js.CreateOrUpdateConsumer(ctx, "RETRY_INTAKE", streams.Consumer("rebound-intake", "retry.submit.>", 2*time.Second, 1<<16))
	if err != nil {
		t.Fatal(err)
	}
	const n, others = 8000, 20
	r.floodWith(n, others)
	hand, err := consumer.FetchNoWait(300)
	if err != nil {
		t.Fatal(err)
	}
	held := 0
	for range hand.Messages() {
		held++
	}
	taken := r.follow()
	r.start(handlers.Config{Policies: policySet(t, parkForAnHour), Lease: 2 * time.Second})
	testkit.Eventually(t, 3*time.Minute, "everything to be parked", func() bool {
		return r.count("RETRY_INTAKE", ">") == 0 && r.count("RETRY", "retry.parked.>") == n+others
	})
	testkit.Eventually(t, time.Minute, "every decision to be published", func() bool {
		flood, small := taken.taken()
		return flood == n && small == others
	})
	if held == 0 {
		t.Error("the older instance had nothing in hand")
	}
}

// TestAhead_WaitsUntilEveryInstanceCanBearIt has an instance that does not announce the
// capability.
func TestAhead_WaitsUntilEveryInstanceCanBearIt(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, parkForAnHour)})
	r.awaitServing(1)
	older, err := micro.AddService(r.nc, micro.Config{Name: "rebound", Version: "0.0.1", Metadata: map[string]string{"prefix": "retry"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = older.Stop() })
	r.instance(events.InstanceReport{ID: "older", State: events.InstanceServing, Version: "0.0.1", Started: time.Now()})
	r.awaitServing(2)
	taken := r.follow()
	const n, others = 5000, 20
	r.floodWith(n, others)
	testkit.Eventually(t, 2*time.Minute, "everything to be taken in", func() bool {
		flood, small := taken.taken()
		return flood == n && small == others
	})
	// The consumer delivers in order, with this many in hand at once.
	const inHand = 512
	taken.mu.Lock()
	defer taken.mu.Unlock()
	for id, before := range taken.others {
		if before < n-inHand {
			t.Errorf("submission %s was taken in after %d of the %d before it", id, before, n)
		}
	}
}

// instance publishes the reports of an instance until the test ends.
func (r *rig) instance(i events.InstanceReport) {
	r.t.Helper()
	m, err := wire.EncodeInstance(events.Subjects{Prefix: "retry"}, &i)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var owned sync.WaitGroup
	owned.Go(func() {
		ticker := time.NewTicker(200 * time.Millisecond)
		defer ticker.Stop()
		for {
			if err := r.nc.PublishMsg(m); err != nil {
				r.t.Errorf("reporting an instance: %v", err)
			}
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
	})
	r.t.Cleanup(func() {
		stop()
		owned.Wait()
	})
}

// leaveAhead stores the due operation of a submission, like an instance that took it in
// ahead of its turn and died before it could remove it.
func (r *rig) leaveAhead(m *jetstream.RawStreamMsg, sequence uint64) {
	r.t.Helper()
	op, err := wire.DecodeSubmission(events.Subjects{Prefix: "retry"}, wire.Submission{Subject: m.Subject, Header: m.Header, Data: m.Data, Received: m.Time})
	if err != nil {
		r.t.Fatal(err)
	}
	op.Ahead, op.Due, op.Priority = sequence, time.Now().UTC(), events.Normal
	due := nats.NewMsg(events.Subjects{}.Due(op.Priority, op.Service, op.Operation, op.ID))
	if err := wire.PutState(op, due.Header); err != nil {
		r.t.Fatal(err)
	}
	if _, err := r.js.PublishMsg(r.t.Context(), due); err != nil {
		r.t.Fatal(err)
	}
}

// submitted returns the last submission of a service and operation type.
func (r *rig) submitted(subject string) *jetstream.RawStreamMsg {
	r.t.Helper()
	s, err := r.js.Stream(r.t.Context(), "RETRY_INTAKE")
	if err != nil {
		r.t.Fatal(err)
	}
	m, err := s.GetLastMsgForSubject(r.t.Context(), subject)
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

func TestAhead_SubmissionIsGoneBeforeTheFirstAttempt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if err := streams.Ensure(t.Context(), r.js, streams.Configs(events.Streams{}, streams.Limits{})); err != nil {
		t.Fatal(err)
	}
	r.submit("retry.submit.small.op", event("left", "normal"), "x")
	m := r.submitted("retry.submit.small.op")
	r.leaveAhead(m, m.Sequence)
	var there bool
	calls := r.target("small.op", func(int, micro.Request) (string, string, micro.Headers) {
		there = r.count("RETRY_INTAKE", "retry.submit.small.op") > 0
		return "", "", nil
	})
	r.start(handlers.Config{})
	r.awaitOutcomes(1, 30*time.Second)
	r.awaitEmpty()
	if there || calls.Load() != 1 {
		t.Errorf("%d attempts were made, the submission still there: %t; want 1 and not there", calls.Load(), there)
	}
}

func TestAhead_AnotherSubmissionInThatPlaceStays(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if err := streams.Ensure(t.Context(), r.js, streams.Configs(events.Streams{}, streams.Limits{})); err != nil {
		t.Fatal(err)
	}
	r.submit("retry.submit.small.op", event("first", "normal"), "x")
	first := r.submitted("retry.submit.small.op")
	r.submit("retry.submit.small.op", event("second", "normal"), "x")
	second := r.submitted("retry.submit.small.op")
	r.leaveAhead(first, second.Sequence)
	r.target("small.op", func(int, micro.Request) (string, string, micro.Headers) { return "", "", nil })
	r.start(handlers.Config{})
	ended := make(map[string]bool)
	testkit.Eventually(t, 30*time.Second, "both to end", func() bool {
		for _, o := range r.outcomes() {
			ended[o.EventID] = true
		}
		return ended["first"] && ended["second"]
	})
}

// TestIntake_SubmissionThatWasPlacedBeforeIsNotRunAgain delivers a submission to an
// instance after its operation was placed, ran, and left an empty slot.
func TestIntake_SubmissionThatWasPlacedBeforeIsNotRunAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx := context.Background()
	if err := streams.Ensure(ctx, r.js, streams.Configs(events.Streams{}, streams.Limits{})); err != nil {
		t.Fatal(err)
	}
	r.submit("retry.submit.small.op", event("placed", "normal"), "x")
	m := r.submitted("retry.submit.small.op")
	id := events.OperationID("/s", "placed", "small", "op")
	name := fmt.Sprintf("%s.0.%s-%d", id, strconv.FormatInt(m.Time.UnixNano(), 36), m.Sequence)
	ack, err := r.js.Publish(ctx, "retry.due.normal.small.op.0123456789abcdef0123456789abcdef", nil, jetstream.WithMsgID(name))
	if err != nil {
		t.Fatal(err)
	}
	waiting, err := r.js.Stream(ctx, "RETRY")
	if err != nil {
		t.Fatal(err)
	}
	if err := waiting.DeleteMsg(ctx, ack.Sequence); err != nil {
		t.Fatal(err)
	}
	calls := r.target("small.op", func(int, micro.Request) (string, string, micro.Headers) { return "", "", nil })
	r.start(handlers.Config{})
	r.awaitEmpty()
	if calls.Load() != 0 || r.count("RETRY_OUTCOMES", "retry.outcome.>") != 0 {
		t.Errorf("%d attempts were made of what was placed before, want none", calls.Load())
	}
}
