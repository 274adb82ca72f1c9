package streams_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func jetStream(t *testing.T) jetstream.JetStream {
	t.Helper()
	return testkit.JetStream(t, testkit.Connect(t, testkit.Server(t).ClientURL()))
}

func config(t *testing.T, js jetstream.JetStream, name string) jetstream.StreamConfig {
	t.Helper()
	s, err := js.Stream(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().Config
}

func TestEnsure_MakesEveryStreamAndIsIdempotent(t *testing.T) {
	js := jetStream(t)
	configs := streams.Configs(events.Streams{}, streams.Limits{OutcomesMaxAge: time.Hour})
	for range 2 {
		if err := streams.Ensure(context.Background(), js, configs); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range configs {
		got := config(t, js, want.Name)
		if got.Retention != want.Retention || got.Discard != want.Discard || strings.Join(got.Subjects, " ") != strings.Join(want.Subjects, " ") || got.AllowMsgSchedules != want.AllowMsgSchedules {
			t.Errorf("stream %s was made as %+v, want %+v", want.Name, got, want)
		}
	}
	if c := config(t, js, "RETRY"); c.MaxAge != 0 || c.MaxMsgs > 0 || c.MaxBytes > 0 || c.MaxMsgsPerSubject > 0 {
		t.Errorf("the stream of what waits has a limit: %+v", c)
	}
}

func TestEnsure_WidensAndNeverNarrows(t *testing.T) {
	js := jetStream(t)
	ctx := context.Background()
	start := streams.Configs(events.Streams{}, streams.Limits{OutcomesMaxAge: time.Hour, DeadMaxAge: time.Hour})
	if err := streams.Ensure(ctx, js, start); err != nil {
		t.Fatal(err)
	}
	next := streams.Configs(events.Streams{}, streams.Limits{OutcomesMaxAge: 10 * time.Minute, DeadMaxAge: 2 * time.Hour})
	if err := streams.Ensure(ctx, js, next); err != nil {
		t.Fatal(err)
	}
	if got := config(t, js, "RETRY_OUTCOMES").MaxAge; got != time.Hour {
		t.Errorf("the age of outcomes is %s, want the wider 1h to stay", got)
	}
	if got := config(t, js, "RETRY_DEAD").MaxAge; got != 2*time.Hour {
		t.Errorf("the age of dead letters is %s, want it widened to 2h", got)
	}
	states, err := streams.Verify(ctx, js, next)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range states {
		if !s.Found || len(s.Problems) > 0 || (s.Name == "RETRY_OUTCOMES") != (len(s.Differences) > 0) {
			t.Errorf("verified as %+v", s)
		}
	}
}

func TestEnsure_AddsWhatAnOlderStreamLacks(t *testing.T) {
	js := jetStream(t)
	ctx := context.Background()
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "RETRY_OUTCOMES", Subjects: []string{"retry.outcome.>"}}); err != nil {
		t.Fatal(err)
	}
	if err := streams.Ensure(ctx, js, streams.Configs(events.Streams{}, streams.Limits{})); err != nil {
		t.Fatal(err)
	}
	if c := config(t, js, "RETRY_OUTCOMES"); len(c.Subjects) != 2 || !c.AllowDirect {
		t.Errorf("the stream has subjects %v and direct get %v, want both subjects and direct get", c.Subjects, c.AllowDirect)
	}
}

func TestEnsure_RefusesWhatCannotServe(t *testing.T) {
	for name, c := range map[string]struct {
		config jetstream.StreamConfig
		want   string
	}{
		"a dead-letter stream that is a work queue": {jetstream.StreamConfig{Name: "RETRY_DEAD", Subjects: []string{"retry.dead.>"}, Retention: jetstream.WorkQueuePolicy}, "its retention is"},
		"a waiting stream with an age":              {jetstream.StreamConfig{Name: "RETRY", Subjects: []string{"retry.parked.>"}, Retention: jetstream.WorkQueuePolicy, MaxAge: time.Hour}, "would delete what waits"},
		"a waiting stream that discards":            {jetstream.StreamConfig{Name: "RETRY", Subjects: []string{"retry.parked.>"}, Retention: jetstream.WorkQueuePolicy, MaxMsgs: 10}, "discards old messages"},
		"a stream on other subjects":                {jetstream.StreamConfig{Name: "RETRY_INTAKE", Subjects: []string{"orders.>"}, Retention: jetstream.WorkQueuePolicy}, `it listens on "orders.>"`},
		"a stream that does not acknowledge":        {jetstream.StreamConfig{Name: "RETRY_INTAKE", Subjects: []string{"retry.submit.>"}, Retention: jetstream.WorkQueuePolicy, NoAck: true}, "does not acknowledge"},
		"a stream in memory":                        {jetstream.StreamConfig{Name: "RETRY_INTAKE", Subjects: []string{"retry.submit.>"}, Retention: jetstream.WorkQueuePolicy, Storage: jetstream.MemoryStorage}, "its storage is"},
	} {
		t.Run(name, func(t *testing.T) {
			js := jetStream(t)
			if _, err := js.CreateStream(context.Background(), c.config); err != nil {
				t.Fatal(err)
			}
			err := streams.Ensure(context.Background(), js, streams.Configs(events.Streams{}, streams.Limits{}))
			var incompatible *streams.IncompatibleError
			if !errors.As(err, &incompatible) || incompatible.Stream != c.config.Name || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an incompatible stream %s, saying %q", err, c.config.Name, c.want)
			}
		})
	}
}

func TestLeaderGet_ReadsByWildcardAndBySequence(t *testing.T) {
	js := jetStream(t)
	ctx := context.Background()
	if err := streams.Ensure(ctx, js, streams.Configs(events.Streams{}, streams.Limits{})); err != nil {
		t.Fatal(err)
	}
	subjects := events.Subjects{}
	if _, err := js.PublishMsg(ctx, &nats.Msg{Subject: subjects.Due(events.High, "a", "b", "1"), Header: nats.Header{"X": {"y"}}, Data: []byte("d")}); err != nil {
		t.Fatal(err)
	}
	m, err := streams.LeaderGet(ctx, js, "RETRY", streams.LastBySubject(subjects.Slot("a", "b", "1")))
	if err != nil || string(m.Data) != "d" || m.Header.Get("X") != "y" || m.Sequence != 1 || m.Time.IsZero() {
		t.Errorf("by wildcard got %+v, %v", m, err)
	}
	if _, err := streams.LeaderGet(ctx, js, "RETRY", streams.LastBySubject(subjects.Slot("a", "b", "2"))); !streams.IsGone(err) {
		t.Errorf("an empty slot gives %v, want it to be gone", err)
	}
	if _, err := streams.LeaderGet(ctx, js, "RETRY", streams.AtSequence(9)); !streams.IsGone(err) {
		t.Errorf("a missing sequence gives %v, want it to be gone", err)
	}
	if _, err := streams.LeaderGet(ctx, js, "NOSUCH", streams.AtSequence(1)); err == nil {
		t.Error("a missing stream gives no error")
	}
}

func TestScan_ReadsPageByPage(t *testing.T) {
	js := jetStream(t)
	ctx := context.Background()
	if err := streams.Ensure(ctx, js, streams.Configs(events.Streams{}, streams.Limits{})); err != nil {
		t.Fatal(err)
	}
	const n = 1000
	for range n {
		if _, err := js.PublishAsync("retry.outcome.retrySuccess.a.b", nil); err != nil {
			t.Fatal(err)
		}
		if _, err := js.PublishAsync("retry.outcome.retrySuccess.a.c", nil); err != nil {
			t.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	got, last := 0, uint64(0)
	for m, err := range streams.Scan(ctx, js, "RETRY_OUTCOMES", "retry.outcome.*.a.b", jetstreamext.GetBatchSeq(1)) {
		if err != nil {
			t.Fatal(err)
		}
		if m.Sequence <= last {
			t.Fatalf("sequence %d came after %d", m.Sequence, last)
		}
		got, last = got+1, m.Sequence
	}
	if got != n {
		t.Errorf("scanned %d messages, want %d", got, n)
	}
}

// TestOpen_StreamsAreReadInTheirDomain reads through a leaf node that has its own JetStream.
func TestOpen_StreamsAreReadInTheirDomain(t *testing.T) {
	js := testkit.JetStreamIn(t, testkit.Connect(t, testkit.Leaf(t, "hub").URL), "hub")
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "SAMPLE", Subjects: []string{"sample"}, AllowDirect: true}); err != nil {
		t.Fatal(err)
	}
	// The leaf node hears a moment later that somebody listens at its hub.
	if _, err := js.Publish(ctx, "sample", []byte("x"), jetstream.WithRetryAttempts(100)); err != nil {
		t.Fatal(err)
	}
	m, err := streams.LeaderGet(ctx, js, "SAMPLE", streams.LastBySubject("sample"))
	if err != nil || string(m.Data) != "x" {
		t.Errorf("the last message is %+v with error %v, want x", m, err)
	}
	if n, err := streams.Count(ctx, js, "SAMPLE", "sample"); err != nil || n != 1 {
		t.Errorf("%d messages are counted with error %v, want 1", n, err)
	}
	read := 0
	for m, err := range streams.Page(ctx, js, "SAMPLE", "sample", 0, 10) {
		if read++; err != nil || string(m.Data) != "x" {
			t.Errorf("a page holds %+v with error %v, want x", m, err)
		}
	}
	if read != 1 {
		t.Errorf("a page has %d messages, want 1", read)
	}
}
