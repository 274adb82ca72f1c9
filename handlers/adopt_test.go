package handlers_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nuid"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/adoption"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/schemas"
)

// patient is a policy that allows more attempts than the workers' three deliveries.
const patient = `
default: {maxAttempts: 6, baseDelay: 10ms, maxDelay: 100ms, jitterType: none, attemptTimeout: 20s}
`

// orders makes the stream ORDERS with the consumer worker, which gives up after
// three deliveries.
func (r *rig) orders(change ...func(*jetstream.StreamConfig, *jetstream.ConsumerConfig)) jetstream.Consumer {
	r.t.Helper()
	s := jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.*"}}
	c := jetstream.ConsumerConfig{Durable: "worker", AckPolicy: jetstream.AckExplicitPolicy, MaxDeliver: 3, AckWait: time.Second}
	for _, f := range change {
		f(&s, &c)
	}
	if _, err := r.js.CreateStream(context.Background(), s); err != nil {
		r.t.Fatal(err)
	}
	consumer, err := r.js.CreateConsumer(context.Background(), s.Name, c)
	if err != nil {
		r.t.Fatal(err)
	}
	return consumer
}

// pulled is how many messages a worker pulls ahead: few, so that their ack wait does not
// run out on a busy machine.
const pulled = 20

// work handles the consumer's messages until the test ends.
func (r *rig) work(consumer jetstream.Consumer, handle func(jetstream.Msg) error) {
	r.t.Helper()
	consuming, err := consumer.Consume(func(m jetstream.Msg) {
		if err := handle(m); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
			r.t.Logf("the worker: %v", err)
		}
	}, jetstream.PullMaxMessages(pulled))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		consuming.Stop()
		<-consuming.Closed()
	})
}

func nak(m jetstream.Msg) error { return m.Nak() }

func (r *rig) adopt(request schemas.AdoptAdd) schemas.AdoptAdded {
	r.t.Helper()
	var added schemas.AdoptAdded
	if code, text := r.request("rebound.adopt.add", nil, request, &added); code != "" {
		r.t.Fatalf("adopting %+v was answered with %s %s", request, code, text)
	}
	return added
}

func (r *rig) order(subject, data string, h nats.Header) uint64 {
	r.t.Helper()
	ack, err := r.js.PublishMsg(r.t.Context(), &nats.Msg{Subject: subject, Data: []byte(data), Header: h})
	if err != nil {
		r.t.Fatal(err)
	}
	return ack.Sequence
}

func TestTakeover_RedeliversAMessageAsItWas(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, patient)})
	consumer := r.orders()
	var mu sync.Mutex
	received := map[string]micro.Request{}
	r.target("orders-worker.process", func(_ int, req micro.Request) (string, string, micro.Headers) {
		mu.Lock()
		defer mu.Unlock()
		received[string(req.Data())] = req
		return "", "", nil
	})
	added := r.adopt(schemas.AdoptAdd{Stream: "ORDERS", Consumer: "worker", Service: "orders", Operation: "process", Target: "orders-worker.process"})
	if len(added.Warnings) > 0 || added.Replaced || added.Target != "orders-worker.process" || added.AdoptedAt.IsZero() {
		t.Errorf("adopting was answered with %+v", added)
	}
	r.work(consumer, func(m jetstream.Msg) error {
		switch string(m.Data()) {
		case "poison":
			return m.TermWithReason("no such order")
		case "good":
			return m.Ack()
		}
		return m.Nak()
	})
	event := nats.Header{"ce-specversion": {"1.0"}, "ce-id": {"their-own"}, "ce-source": {"/shop"}, "ce-type": {"order.placed"}, "X-Tenant": {"7"}}
	sequences := map[string]uint64{
		"bad": r.order("orders.new", "bad", event), "poison": r.order("orders.old", "poison", nil), "good": r.order("orders.new", "good", nil),
	}

	for _, got := range r.awaitOutcomes(2, 15*time.Second) {
		if got.Outcome != events.RetrySuccess || got.Service != "orders" || got.Operation != "process" || got.Source != "/jetstream/ORDERS/worker" {
			t.Errorf("the outcome is %+v, want a retrySuccess of orders:process", got)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(received) != 2 || received["good"] != nil {
		t.Fatalf("the target received %d messages, want bad and poison", len(received))
	}
	for data, want := range map[string]struct{ attempt, subject string }{"bad": {"4", "orders.new"}, "poison": {"2", "orders.old"}} {
		h := nats.Header(received[data].Headers())
		for header, value := range map[string]string{
			events.HeaderAttempt: want.attempt, events.HeaderOriginSubject: want.subject, events.HeaderOriginStream: "ORDERS",
			events.HeaderOriginConsumer: "worker", events.HeaderOriginSequence: fmt.Sprint(sequences[data]),
		} {
			if h.Get(header) != value {
				t.Errorf("message %s has %s %q, want %q", data, header, h.Get(header), value)
			}
		}
	}
	for header, value := range event {
		if got := nats.Header(received["bad"].Headers())[header]; len(got) != 1 || got[0] != value[0] {
			t.Errorf("header %s came as %q, want %q untouched", header, got, value)
		}
	}
	r.awaitEmpty()
}

func TestTakeover_ExhaustedMessageIsDeadLetteredWithItsOrigin(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, patient)})
	consumer := r.orders()
	calls := r.target("orders.worker", func(int, micro.Request) (string, string, micro.Headers) { return "503", "busy", nil })
	// The worker's own subject would be one of the stream's.
	if code, text := r.request("rebound.adopt.add", nil, schemas.AdoptAdd{Stream: "ORDERS", Consumer: "worker", Target: "orders.worker"}, nil); code != "400" || !strings.Contains(text, "is a subject of stream ORDERS itself") {
		t.Errorf("a target of the stream itself was answered with %s %s", code, text)
	}
	r.adopt(schemas.AdoptAdd{Stream: "ORDERS", Consumer: "worker"})
	target := r.target("ORDERS.worker", func(int, micro.Request) (string, string, micro.Headers) { return "503", "busy", nil })
	r.work(consumer, nak)
	sequence := r.order("orders.new", "x", nats.Header{"X-Tenant": {"7"}})
	got := r.awaitOutcomes(1, 15*time.Second)[0]
	if got.Outcome != events.RetryFailed || got.Reason != events.ReasonExhausted || got.Attempts != 6 || target.Load() != 3 || calls.Load() != 0 {
		t.Errorf("the outcome is %+v after %d calls, want it exhausted after 3 deliveries and 3 attempts", got, target.Load())
	}
	d := r.deadLetters()[0]
	if string(d.Data) != "x" || wire.HeaderValue(d.Header, "X-Tenant") != "7" || d.State == nil || d.State.Origin == nil ||
		*d.State.Origin != (events.Origin{Stream: "ORDERS", Consumer: "worker", Sequence: sequence, Subject: "orders.new"}) {
		t.Fatalf("the dead letter is %+v, want the message and where it was", d)
	}
	if first := d.State.History[0]; first.Number != 3 || first.Code != adoption.CodeMaxDeliveries || first.Error != "consumer worker gave it up after 3 deliveries" {
		t.Errorf("its history begins with %+v", first)
	}
	doc, err := json.Marshal(d)
	if err == nil {
		err = schemas.Validate("deadLetter", doc)
	}
	if err != nil {
		t.Errorf("the dead letter breaks its schema: %v\n%s", err, doc)
	}
}

func TestTakeover_MessageThatIsGoneBecomesADeadLetterThatSaysSo(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, patient)})
	// A work queue removes what is terminated.
	consumer := r.orders(func(s *jetstream.StreamConfig, _ *jetstream.ConsumerConfig) { s.Retention = jetstream.WorkQueuePolicy })
	added := r.adopt(schemas.AdoptAdd{Stream: "ORDERS", Consumer: "worker", Target: "nobody.home"})
	if len(added.Warnings) != 1 || !strings.Contains(added.Warnings[0], "a dead letter without payload") {
		t.Errorf("the warnings are %q", added.Warnings)
	}
	r.work(consumer, func(m jetstream.Msg) error { return m.Term() })
	r.order("orders.new", "x", nil)
	got := r.awaitOutcomes(1, 15*time.Second)[0]
	if got.Reason != events.ReasonRejected || !strings.Contains(got.Detail, "message 1 is no longer in stream ORDERS; consumer worker terminated it after 1 delivery") {
		t.Errorf("the outcome is %+v, want it rejected for the message being gone", got)
	}
	d := r.deadLetters()[0]
	if len(d.Data) > 0 || d.State == nil || d.State.Origin == nil || !d.State.Origin.Gone() {
		t.Errorf("the dead letter is %+v", d)
	}
	if err := r.letters.Replay(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	for _, o := range r.awaitOutcomes(2, 10*time.Second) {
		if o.Reason != events.ReasonRejected {
			t.Errorf("replaying it ended in %+v, want it refused", o)
		}
	}
	if n := len(r.deadLetters()); n != 2 {
		t.Errorf("there are %d dead letters, want the one and the refusal of its replay", n)
	}
}

func TestTakeover_MessageOfTwoAdvisoriesIsTakenOverOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, patient)}, handlers.Config{Policies: policySet(t, patient)})
	r.orders()
	calls := r.target("t.x", func(int, micro.Request) (string, string, micro.Headers) { return "", "", nil })
	r.adopt(schemas.AdoptAdd{Stream: "ORDERS", Consumer: "worker", Target: "t.x"})
	sequence := r.order("orders.new", "x", nil)
	for range 20 {
		r.advise(sequence, time.Now())
	}
	r.awaitOutcomes(1, 15*time.Second)
	r.advise(sequence, time.Now())
	r.awaitTaken()
	if n := r.awaitOutcomes(1, time.Second); calls.Load() != 1 || len(n) != 1 {
		t.Errorf("the target was called %d times, want once", calls.Load())
	}
}

// advise stores the server's advisory about a message that was given up.
func (r *rig) advise(sequence uint64, at time.Time) *jetstream.PubAck {
	r.t.Helper()
	advisory := fmt.Sprintf(`{"type":"io.nats.jetstream.advisory.v1.max_deliver","id":%q,"timestamp":%q,"stream":"ORDERS","consumer":"worker","stream_seq":%d,"deliveries":3}`,
		nuid.Next(), at.UTC().Format(time.RFC3339Nano), sequence)
	ack, err := r.js.Publish(r.t.Context(), "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.ORDERS.worker", []byte(advisory))
	if err != nil {
		r.t.Fatal(err)
	}
	return ack
}

func TestTakeover_MessageOfAStreamThatWasMadeAnewIsNotTakenForTheOldOne(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, patient)})
	r.orders()
	r.adopt(schemas.AdoptAdd{Stream: "ORDERS", Consumer: "worker", Target: "t.x"})
	r.advise(r.order("orders.new", "x", nil), time.Now().Add(-time.Minute))
	if got := r.awaitOutcomes(1, 15*time.Second)[0]; got.Reason != events.ReasonRejected || !strings.Contains(got.Detail, "message 1 is no longer in stream ORDERS") {
		t.Errorf("the outcome is %+v, want that the message is gone", got)
	}
}

// TestTakeover_ClaimOutlivesTheInstanceThatMadeIt leaves claims behind, like an instance
// that is killed between claiming a message and storing its operation.
func TestTakeover_ClaimOutlivesTheInstanceThatMadeIt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	stop := begin(r, handlers.Config{})
	r.orders()
	received := make(chan string, 10)
	r.target("t.x", func(_ int, req micro.Request) (string, string, micro.Headers) {
		received <- string(req.Data())
		return "", "", nil
	})
	r.adopt(schemas.AdoptAdd{Stream: "ORDERS", Consumer: "worker", Target: "t.x"})
	stop()
	source, err := adoption.Find(t.Context(), r.js, "ORDERS", "worker")
	if err != nil {
		t.Fatal(err)
	}
	ledger, err := adoption.EnsureLedger(t.Context(), r.js, "", 1)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := r.js.Stream(t.Context(), "RETRY_ADVISORIES")
	if err != nil {
		t.Fatal(err)
	}
	for data, own := range map[string]bool{"its own claim": true, "the claim of another": false} {
		sequence := r.order("orders.new", data, nil)
		m, err := stream.GetMsg(t.Context(), r.advise(sequence, time.Now()).Sequence)
		if err != nil {
			t.Fatal(err)
		}
		claimant := "another"
		if own {
			claimant = strconv.FormatInt(m.Time.UnixNano(), 36) + "-" + strconv.FormatUint(m.Sequence, 10)
		}
		id := adoption.EventID(source.Stream.Created, source.Consumer.Created, sequence)
		if _, _, err := ledger.Claim(t.Context(), adoption.Message("/jetstream/ORDERS/worker", id), claimant); err != nil {
			t.Fatal(err)
		}
	}
	r.start(handlers.Config{Policies: policySet(t, patient)})
	r.awaitOutcomes(1, 15*time.Second)
	r.awaitTaken()
	r.awaitOutcomes(1, time.Second)
	if data := <-received; data != "its own claim" || len(received) > 0 {
		t.Errorf("the target received %q and %d more, want the message with the advisory's own claim", data, len(received))
	}
}

// awaitTaken waits until everything that was given up is taken over.
func (r *rig) awaitTaken() {
	r.t.Helper()
	testkit.Eventually(r.t, 20*time.Second, "everything being taken over", func() bool { return r.size("RETRY_ADVISORIES") == 0 })
	r.awaitEmpty()
}

func TestTakeover_TargetThatBecomesASubjectOfTheStreamIsNoEndlessLoop(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, patient)})
	consumer := r.orders()
	r.adopt(schemas.AdoptAdd{Stream: "ORDERS", Consumer: "worker", Service: "orders", Operation: "process", Target: "shop.orders"})
	s, err := r.js.Stream(t.Context(), "ORDERS")
	if err != nil {
		t.Fatal(err)
	}
	config := s.CachedInfo().Config
	config.Subjects = append(config.Subjects, "shop.*")
	if _, err := r.js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	r.work(consumer, nak)
	r.order("orders.new", "x", nil)
	if got := r.awaitOutcomes(1, 15*time.Second)[0]; got.Reason != events.ReasonRejected || !strings.Contains(got.Detail, "is a subject of stream ORDERS itself") {
		t.Errorf("the outcome is %+v, want it rejected for its target", got)
	}
	if n := r.size("ORDERS"); n != 1 {
		t.Errorf("stream ORDERS has %d messages, want the one", n)
	}
	var list schemas.AdoptList
	r.request("rebound.adopt.list", nil, nil, &list)
	if len(list.Consumers) != 1 || len(list.Consumers[0].Warnings) == 0 || !strings.Contains(list.Consumers[0].Warnings[0], "is a subject of stream ORDERS itself") {
		t.Errorf("the list is %+v, want it to say so", list)
	}
}

func TestTakeover_WhatIsNoAdvisoryBecomesADeadLetter(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{})
	r.orders()
	r.adopt(schemas.AdoptAdd{Stream: "ORDERS", Consumer: "worker"})
	if _, err := r.js.Publish(t.Context(), "retry.advisory.a.b", []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if got := r.awaitOutcomes(1, 10*time.Second)[0]; got.Reason != events.ReasonRejected || got.Service != events.Invalid || !strings.Contains(got.Detail, "reading an advisory") {
		t.Errorf("the outcome is %+v", got)
	}
	if d := r.deadLetters()[0]; string(d.Data) != "hello" {
		t.Errorf("the dead letter is %+v", d)
	}
}

func TestAdopt_ConsumerThatIsLeftAloneIsNotTakenFrom(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, patient)}, handlers.Config{Policies: policySet(t, patient)})
	consumer := r.orders()
	r.adopt(schemas.AdoptAdd{Stream: "ORDERS", Consumer: "worker", Target: "t.x"})
	var removed schemas.AdoptRemove
	if code, text := r.request("rebound.adopt.remove", nil, schemas.AdoptRemove{Stream: "ORDERS", Consumer: "worker"}, &removed); code != "" || removed.Consumer != "worker" {
		t.Fatalf("removing was answered with %s %s", code, text)
	}
	if code, text := r.request("rebound.adopt.remove", nil, schemas.AdoptRemove{Stream: "ORDERS", Consumer: "worker"}, nil); code != "404" || !strings.Contains(text, "not adopted") {
		t.Errorf("removing twice was answered with %s %s", code, text)
	}
	given := make(chan struct{}, 1)
	if _, err := r.nc.Subscribe("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>", func(*nats.Msg) { given <- struct{}{} }); err != nil {
		t.Fatal(err)
	}
	r.work(consumer, nak)
	r.order("orders.new", "x", nil)
	<-given
	if n := r.size("RETRY_ADVISORIES"); n != 0 {
		t.Errorf("%d advisories are stored of a consumer that is not adopted", n)
	}
	r.awaitTaken()
	if n := r.count("RETRY_OUTCOMES", "retry.>"); n != 0 {
		t.Errorf("%d events tell of a consumer that is not adopted", n)
	}
}

func TestAdopt_EndpointsAnswerByTheirSchemasOrRefuse(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, `
default: {maxAttempts: 3}
closed: {targets: [inside.*]}
`)})
	r.orders()
	for _, c := range []jetstream.ConsumerConfig{
		{Durable: "deaf", AckPolicy: jetstream.AckNonePolicy},
		{Durable: "endless", AckPolicy: jetstream.AckExplicitPolicy},
	} {
		if _, err := r.js.CreateConsumer(t.Context(), "ORDERS", c); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"other.>"}}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		subject, schema, want string
		body                  any
	}{
		{"rebound.adopt.list", "adoptList.response", `"consumers":[]`, nil},
		{"rebound.adopt.add", "adoptAdded.response", "becomes a dead letter at once", schemas.AdoptAdd{Stream: "ORDERS", Consumer: "worker"}},
		{"rebound.adopt.add", "adoptAdded.response", `"replaced":true`, schemas.AdoptAdd{Stream: "ORDERS", Consumer: "worker", Service: "shop"}},
		{"rebound.adopt.add", "adoptAdded.response", "that it is stored counts as its success", schemas.AdoptAdd{Stream: "ORDERS", Consumer: "endless", Target: "other.x"}},
		{"rebound.adopt.list", "adoptList.response", `"target":"shop.worker"`, nil},
		{"rebound.adopt.remove", "adoptRemoved.response", `"worker"`, schemas.AdoptRemove{Stream: "ORDERS", Consumer: "worker"}},
	} {
		var answer json.RawMessage
		if code, text := r.request(c.subject, nil, c.body, &answer); code != "" {
			t.Errorf("%s with %+v was answered with %s %s", c.subject, c.body, code, text)
			continue
		}
		if err := schemas.Validate(c.schema, answer); err != nil || !strings.Contains(string(answer), c.want) {
			t.Errorf("the answer of %s is %s, want %s in it, by its schema (%v)", c.subject, answer, c.want, err)
		}
	}
	for _, c := range []struct {
		code, want string
		body       any
	}{
		{"404", "no such stream", schemas.AdoptAdd{Stream: "NOWHERE", Consumer: "worker"}},
		{"404", "no such consumer", schemas.AdoptAdd{Stream: "ORDERS", Consumer: "nobody"}},
		{"400", "consumer is empty", schemas.AdoptAdd{Stream: "ORDERS"}},
		{"400", "acknowledges nothing", schemas.AdoptAdd{Stream: "ORDERS", Consumer: "deaf"}},
		{"400", "belongs to the server", schemas.AdoptAdd{Stream: "ORDERS", Consumer: "worker", Target: "$JS.API.INFO"}},
		{"400", "not among the targets that the policy allows", schemas.AdoptAdd{Stream: "ORDERS", Consumer: "worker", Service: "closed", Target: "outside.x"}},
		{"400", "is Rebound's own", schemas.AdoptAdd{Stream: "RETRY_INTAKE", Consumer: "rebound-intake"}},
		{"400", "unknown field", map[string]string{"queue": "x"}},
	} {
		if code, text := r.request("rebound.adopt.add", nil, c.body, nil); code != c.code || !strings.Contains(text, c.want) {
			t.Errorf("adopting %+v was answered with %s %s, want %s and %q", c.body, code, text, c.code, c.want)
		}
	}
	for _, stream := range []string{"RETRY_WORK", "KV_RETRY_LANES", "KV_RETRY_BREAKERS", "KV_RETRY_LEDGERS"} {
		if _, err := r.js.Stream(t.Context(), stream); errors.Is(err, jetstream.ErrStreamNotFound) { // it is made when it is first used
			if _, err := r.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: stream}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.js.CreateConsumer(t.Context(), stream, jetstream.ConsumerConfig{Durable: "foreign", AckPolicy: jetstream.AckExplicitPolicy, MaxDeliver: 3}); err != nil {
			t.Fatalf("making a consumer of %s: %v", stream, err)
		}
		if code, text := r.request("rebound.adopt.add", nil, schemas.AdoptAdd{Stream: stream, Consumer: "foreign"}, nil); code != "400" || !strings.Contains(text, "is Rebound's own") {
			t.Errorf("adopting a consumer of %s was answered with %s %s, want it refused as Rebound's own", stream, code, text)
		}
	}
	if _, err := r.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "AUDIT", Subjects: []string{"$JS.EVENT.ADVISORY.CONSUMER.*.ORDERS.worker"}}); err != nil {
		t.Fatal(err)
	}
	if code, text := r.request("rebound.adopt.add", nil, schemas.AdoptAdd{Stream: "ORDERS", Consumer: "worker"}, nil); code != "400" || !strings.Contains(text, "stream AUDIT stores") {
		t.Errorf("a consumer whose advisories another stream stores was answered with %s %s", code, text)
	}
}
