package adoption_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/adoption"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestCandidate_IsJudgedBeforeItIsAdopted(t *testing.T) {
	for name, c := range map[string]struct {
		change   func(*jetstream.StreamConfig, *jetstream.ConsumerConfig, *adoption.Route)
		warnings []string
		refusal  string
	}{
		"a consumer in order": {func(*jetstream.StreamConfig, *jetstream.ConsumerConfig, *adoption.Route) {}, nil, ""},
		"no acknowledgements": {func(_ *jetstream.StreamConfig, c *jetstream.ConsumerConfig, _ *adoption.Route) {
			c.AckPolicy = jetstream.AckNonePolicy
		}, nil, "acknowledges nothing"},
		"a target of the same stream": {func(_ *jetstream.StreamConfig, _ *jetstream.ConsumerConfig, r *adoption.Route) {
			r.Target = "orders.new"
		}, nil, "is a subject of stream ORDERS itself"},
		"a stream of ours": {func(s *jetstream.StreamConfig, _ *jetstream.ConsumerConfig, _ *adoption.Route) {
			s.Name, s.Subjects = "RETRY", nil
		}, nil, "stream RETRY is Rebound's own"},
		"deliveries without limit": {func(_ *jetstream.StreamConfig, c *jetstream.ConsumerConfig, _ *adoption.Route) {
			c.MaxDeliver = -1
		}, []string{"delivers without limit"}, ""},
		"as many deliveries as attempts": {func(_ *jetstream.StreamConfig, c *jetstream.ConsumerConfig, _ *adoption.Route) {
			c.MaxDeliver = 5
		}, []string{"becomes a dead letter at once"}, ""},
		"an ephemeral consumer of a work queue": {func(s *jetstream.StreamConfig, c *jetstream.ConsumerConfig, _ *adoption.Route) {
			s.Retention, c.Durable = jetstream.WorkQueuePolicy, ""
		}, []string{"is ephemeral", "a dead letter without payload"}, ""},
	} {
		s := jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.*"}}
		consumer := jetstream.ConsumerConfig{Durable: "worker", MaxDeliver: 3}
		route := adoption.Route{Target: "worker.orders", MaxAttempts: 5}
		c.change(&s, &consumer, &route)
		warnings, refusal := adoption.Candidate{
			Stream: &jetstream.StreamInfo{Config: s}, Consumer: &jetstream.ConsumerInfo{Name: "worker", Config: consumer},
		}.Judge(route, []string{"RETRY"})
		if c.refusal == "" && refusal != nil || c.refusal != "" && (refusal == nil || !strings.Contains(refusal.Error(), c.refusal)) {
			t.Errorf("%s is refused with %v, want %q", name, refusal, c.refusal)
		}
		if !slices.EqualFunc(warnings, c.warnings, strings.Contains) {
			t.Errorf("%s is warned of %q, want %q", name, warnings, c.warnings)
		}
	}
}

func TestCandidate_IsFoundWhateverItsKind(t *testing.T) {
	t.Parallel()
	js := testkit.JetStream(t, testkit.Connect(t, testkit.Server(t).ClientURL()))
	if _, err := adoption.Find(t.Context(), js, "ORDERS", "worker"); !errors.Is(err, adoption.ErrNoStream) {
		t.Errorf("without a stream it gives %v", err)
	}
	makeWorker(t, js, "ORDERS", "worker")
	if _, err := js.CreatePushConsumer(t.Context(), "ORDERS", jetstream.ConsumerConfig{Durable: "pushed", DeliverSubject: "to.worker", AckPolicy: jetstream.AckExplicitPolicy}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"worker", "pushed"} {
		found, err := adoption.Find(t.Context(), js, "ORDERS", name)
		if err != nil || found.Consumer.Name != name || found.Stream.Config.Name != "ORDERS" || found.Consumer.Created.IsZero() {
			t.Errorf("consumer %s is found as %+v, %v", name, found, err)
		}
	}
	if found, err := adoption.Find(t.Context(), js, "ORDERS", "nobody"); !errors.Is(err, adoption.ErrNoConsumer) || found.Stream == nil {
		t.Errorf("without a consumer it gives %+v, %v, want the stream all the same", found, err)
	}
}

// makeWorker makes a stream with a consumer that gives up after three deliveries.
func makeWorker(t *testing.T, js jetstream.JetStream, stream, consumer string) jetstream.Consumer {
	t.Helper()
	if _, err := js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: stream, Subjects: []string{strings.ToLower(stream) + ".*"}}); err != nil {
		t.Fatal(err)
	}
	c, err := js.CreateOrUpdateConsumer(t.Context(), stream, jetstream.ConsumerConfig{Durable: consumer, AckPolicy: jetstream.AckExplicitPolicy, MaxDeliver: 3})
	if err != nil {
		t.Fatal(err)
	}
	return c
}
