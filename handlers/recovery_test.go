package handlers

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/time/rate"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/deadletter"
	"github.com/rebound-mq/rebound/internal/natsconn"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestRecovery_RunsThatNobodyAsksForAnyMoreAreDropped(t *testing.T) {
	nc := testkit.Connect(t, testkit.Server(t).ClientURL())
	js := testkit.JetStream(t, nc)
	names, subjects := events.Streams{}, events.Subjects{}
	for _, config := range streams.Configs(names, streams.Limits{}) {
		if _, err := js.CreateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
	}
	tell := func(run string) {
		m := nats.NewMsg(subjects.Outcome(events.RetrySuccess, "pay", "charge"))
		m.Header.Set(jetstream.MsgIDHeader, run+".outcome")
		if _, err := js.PublishMsgAsync(m); err != nil {
			t.Fatal(err)
		}
	}
	st := &store{
		js: js, log: slog.New(slog.DiscardHandler), warn: rate.Sometimes{First: 1}, random: func() float64 { return 0.5 },
		clock: natsconn.NewClock(nil), storage: &storage{},
	}
	r := newRecovery(st, js, deadletter.New(js, ""))
	first := time.Now()
	op := func(n int) *events.Operation {
		return &events.Operation{ID: fmt.Sprint(n), Service: "pay", Operation: "charge"}
	}
	for n := range mostRuns + 1 {
		tell(op(n).Run())
	}
	<-js.PublishAsyncComplete()
	told := func(n int, since time.Time) {
		t.Helper()
		if ok, err := r.Concluded(t.Context(), op(n), since); err != nil || !ok {
			t.Errorf("operation %d has concluded: %v, %v, want true", n, ok, err)
		}
	}
	told(mostRuns, first)
	later := time.Now().Add(clockSlack + time.Second)
	testkit.Eventually(t, 10*time.Second, "a time after the last outcome", func() bool { return time.Now().After(later) })
	tell(op(mostRuns + 1).Run())
	<-js.PublishAsyncComplete()
	told(mostRuns+1, later)
	kept := r.keys["pay:charge"]
	if len(kept.runs) != mostRuns+2 {
		t.Errorf("%d runs are remembered a moment later, want all %d", len(kept.runs), mostRuns+2)
	}
	kept.began = kept.began.Add(-2 * runsKept)
	told(mostRuns+1, later)
	if len(kept.runs) != 1 {
		t.Errorf("%d runs are remembered, want the one that came after what is asked for", len(kept.runs))
	}
	told(0, first)
	if len(kept.runs) != mostRuns+2 {
		t.Errorf("%d runs are remembered when an older one is asked for again, want all %d", len(kept.runs), mostRuns+2)
	}
}
