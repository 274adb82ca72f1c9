package handlers

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/natsconn"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestTaken_IsSharedOnceAnotherInstanceMayHaveIt(t *testing.T) {
	nc := testkit.Connect(t, testkit.Server(t).ClientURL())
	q := &queue{nc: nc, config: jetstream.ConsumerConfig{AckWait: time.Minute}}
	for says, c := range map[string]struct {
		change func(*taken)
		want   bool
	}{
		"it came for the first time, just now": {func(*taken) {}, false},
		"it came before":                       {func(t *taken) { t.meta.NumDelivered = 2 }, true},
		"its consumer is a new one":            {func(t *taken) { t.forgotten = true }, true},
		"the connection was another one":       {func(t *taken) { t.reconnects = 1 }, true},
		"its lease was a third over":           {func(t *taken) { t.beat = t.beat.Add(-20 * time.Second) }, false},
		"its lease was nearly over":            {func(t *taken) { t.beat = t.beat.Add(-50 * time.Second) }, true},
		// Without its monotonic part the time goes by the wall clock alone, as it does
		// when a machine was suspended.
		"the machine was suspended": {func(t *taken) { t.beat = t.beat.Add(-50 * time.Second).Round(0) }, true},
		"it once was":               {func(t *taken) { t.lapsed = true }, true},
	} {
		t.Run(says, func(t *testing.T) {
			m := &taken{meta: &jetstream.MsgMetadata{NumDelivered: 1}, beat: time.Now(), q: q}
			c.change(m)
			if got := m.shared(); got != c.want {
				t.Errorf("shared = %v, want %v", got, c.want)
			}
			// It stays so when the lease is renewed.
			m.beat = time.Now()
			if got := m.shared(); got != c.want {
				t.Errorf("after a sign of life, shared = %v, want %v", got, c.want)
			}
		})
	}
	m := &taken{meta: &jetstream.MsgMetadata{NumDelivered: 1}, beat: time.Now(), q: q}
	nc.Close()
	if !m.shared() {
		t.Error("without a connection it is not shared")
	}
}

func TestCourse_ConsumerThatGoesBackMayHaveDeliveredBefore(t *testing.T) {
	made := time.Now()
	var c course
	c.begin(made)
	for _, step := range []struct {
		sequence, delivered uint64
		others              uint64 // was delivered to another instance before
		age                 time.Duration
		made                time.Duration
		want                bool
	}{
		{sequence: 7, delivered: 1},
		{sequence: 9, delivered: 1},
		{sequence: 7, delivered: 2, want: true},
		{sequence: 12, delivered: 1},
		{sequence: 10, delivered: 1, want: true}, // its leader was cut off, and another leads
		{sequence: 13, delivered: 1},
		{sequence: 15, delivered: 1, others: 15, want: true}, // that had it from the leader before
		{sequence: 18, delivered: 1, others: 17},
		{sequence: 20, delivered: 1, others: 19},
		{sequence: 21, delivered: 1, age: time.Minute, want: true}, // older than the consumer
		{sequence: 1, delivered: 1, made: time.Second},             // stream and consumer were made anew
	} {
		c.begin(made.Add(step.made))
		c.hear(made, step.others)
		others, _ := c.begin(made.Add(step.made))
		m := &jetstream.MsgMetadata{
			NumDelivered: step.delivered, Sequence: jetstream.SequencePair{Stream: step.sequence}, Timestamp: made.Add(2*time.Second - step.age),
		}
		if got := c.forgotten(m, others); got != step.want {
			t.Errorf("message %d, delivery %d: forgotten = %v, want %v", step.sequence, step.delivered, got, step.want)
		}
	}
}

func TestAppetite_PullsEndByCountAtASteadyPace(t *testing.T) {
	var a appetite
	if got := a.most(); got != fetchBatch {
		t.Errorf("the first pull asks for %d, want as many as may be, %d", got, fetchBatch)
	}
	timed := 0
	const inTime = 40 // messages come while a pull waits
	for range 20 {
		asked := a.most()
		if asked > inTime {
			timed++
		}
		a.had(asked, min(asked, inTime), fetchWait*time.Duration(min(asked, inTime))/inTime)
	}
	if timed > 1 || a.most() < inTime/2 {
		t.Errorf("of 20 pulls %d ended before all came, and the next asks for %d; want one, and about %d", timed, a.most(), inTime)
	}
	for range 3 {
		a.had(a.most(), 0, fetchWait)
	}
	if got := a.most(); got != 1 {
		t.Errorf("when nothing comes a pull asks for %d, want 1", got)
	}
	for range 8 {
		a.had(a.most(), a.most(), time.Millisecond)
	}
	if got := a.most(); got != fetchBatch {
		t.Errorf("in a flood a pull asks for %d after eight, want %d", got, fetchBatch)
	}
	a.had(2, 2, time.Millisecond) // there was room for no more
	if got := a.most(); got != fetchBatch {
		t.Errorf("after a pull for which there was little room it asks for %d, want %d", got, fetchBatch)
	}
}

func TestQueue_WhatAConsumerDeliveredThatIsGoneIsShared(t *testing.T) {
	nc := testkit.Connect(t, testkit.Server(t).ClientURL())
	js := testkit.JetStream(t, nc)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Retention: jetstream.WorkQueuePolicy}); err != nil {
		t.Fatal(err)
	}
	came, done := make(chan *taken, 2), make(chan struct{})
	q := &queue{
		nc: nc, js: js, stream: "S", config: jetstream.ConsumerConfig{Durable: "c", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Minute},
		inFlight: semaphore.NewWeighted(10), bytes: semaphore.NewWeighted(1 << 20), maxBytes: 1 << 20, log: slog.New(slog.DiscardHandler),
		handle: func(_ context.Context, m *taken) error {
			came <- m
			<-done
			return nil
		},
	}
	draining := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() { q.run(t.Context(), draining) })
	defer running.Wait()
	defer close(draining)
	defer close(done)
	testkit.Eventually(t, 10*time.Second, "the consumer", func() bool {
		_, err := js.Consumer(t.Context(), "S", "c")
		return err == nil
	})
	if _, err := js.Publish(t.Context(), "s", nil); err != nil {
		t.Fatal(err)
	}
	first := <-came
	if first.shared() {
		t.Error("what was just delivered is shared, want it not while its consumer is there")
	}
	if err := js.DeleteConsumer(t.Context(), "S", "c"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 10*time.Second, "what the consumer had delivered to be shared", first.shared)
	if again := <-came; !again.shared() {
		t.Error("what the new consumer delivers again is not shared")
	}
}

func TestLanes_OnlyWhatIsOlderThanItsSlotIsRemoved(t *testing.T) {
	nc := testkit.Connect(t, testkit.Server(t).ClientURL())
	js := testkit.JetStream(t, nc)
	for _, c := range streams.Configs(events.Streams{}, streams.Limits{}) {
		if _, err := js.CreateStream(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	s := &store{
		js: js, log: slog.New(slog.DiscardHandler), warn: rate.Sometimes{First: 1}, metrics: modelMetrics(),
		random: func() float64 { return 0.5 }, clock: natsconn.NewClock(nil), storage: &storage{},
	}
	l := &lanes{store: s, reading: js}
	id, other := strings.Repeat("a", 32), strings.Repeat("b", 32)
	put := func(subject string) *jetstream.RawStreamMsg {
		ack, err := js.Publish(t.Context(), subject, nil)
		if err != nil {
			t.Fatal(err)
		}
		return &jetstream.RawStreamMsg{Subject: subject, Sequence: ack.Sequence, Header: nats.Header{}}
	}
	stands := func(m *jetstream.RawStreamMsg) bool {
		stream, err := js.Stream(t.Context(), "RETRY")
		if err != nil {
			t.Fatal(err)
		}
		_, err = stream.GetMsg(t.Context(), m.Sequence)
		return err == nil
	}

	// A newer version stands in its slot: it is a left-over.
	leftOver := put("retry.held.normal.s.o." + id)
	newer := put("retry.due.normal.s.o." + id)
	if moved, err := l.move(t.Context(), []*jetstream.RawStreamMsg{leftOver}); err != nil || moved != 0 {
		t.Fatalf("moved %d, error %v, want none", moved, err)
	}
	if stands(leftOver) || !stands(newer) {
		t.Errorf("the left-over stands: %v, and what is newer: %v", stands(leftOver), stands(newer))
	}

	// Its release is refused, because another version was read than stands there. That
	// proves nothing against what stands.
	held := put("retry.held.normal.s.o." + other)
	if moved, err := l.move(t.Context(), []*jetstream.RawStreamMsg{{Subject: held.Subject, Sequence: held.Sequence + 1, Header: nats.Header{}}}); err != nil || moved != 0 {
		t.Fatalf("moved %d, error %v, want none", moved, err)
	}
	if !stands(held) || !stands(newer) {
		t.Errorf("what is held stands: %v, and what is due: %v, want both", stands(held), stands(newer))
	}
}
