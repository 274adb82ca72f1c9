package opstore

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/deadletter"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestRecovery_RunsThatNobodyAsksForAnyMoreAreDropped(t *testing.T) {
	t.Parallel()
	nc := testkit.Connect(t, testkit.Server(t).ClientURL())
	js := testkit.JetStream(t, nc)
	names, subjects := events.Streams{}, events.Subjects{}
	for _, config := range streams.Configs(names, streams.Limits{}) {
		if _, err := js.CreateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
	}
	end := func(run string) {
		m := nats.NewMsg(subjects.Outcome(events.RetrySuccess, "pay", "charge"))
		m.Header.Set(jetstream.MsgIDHeader, run+".outcome")
		if _, err := js.PublishMsgAsync(m); err != nil {
			t.Fatal(err)
		}
	}
	st := newStore(js)
	r := NewRecovery(st, js, deadletter.New(js, ""))
	first := time.Now()
	op := func(n int) *events.Operation {
		return &events.Operation{ID: fmt.Sprint(n), Service: "pay", Operation: "charge"}
	}
	for n := range mostRuns + 1 {
		end(op(n).Run())
	}
	<-js.PublishAsyncComplete()
	concluded := func(n int, since time.Time) {
		t.Helper()
		if ok, err := r.Concluded(t.Context(), op(n), since); err != nil || !ok {
			t.Errorf("operation %d has concluded: %v, %v, want true", n, ok, err)
		}
	}
	concluded(mostRuns, first)
	later := time.Now().Add(streams.ClockSlack + time.Second)
	testkit.Eventually(t, 10*time.Second, "a time after the last outcome", func() bool { return time.Now().After(later) })
	end(op(mostRuns + 1).Run())
	<-js.PublishAsyncComplete()
	concluded(mostRuns+1, later)
	kept := r.keys["pay:charge"]
	if len(kept.runs) != mostRuns+2 {
		t.Errorf("%d runs are remembered a moment later, want all %d", len(kept.runs), mostRuns+2)
	}
	kept.began = kept.began.Add(-2 * runsKept)
	concluded(mostRuns+1, later)
	if len(kept.runs) != 1 {
		t.Errorf("%d runs are remembered, want the one that came after what is asked for", len(kept.runs))
	}
	concluded(0, first)
	if len(kept.runs) != mostRuns+2 {
		t.Errorf("%d runs are remembered when an older one is asked for again, want all %d", len(kept.runs), mostRuns+2)
	}
}
