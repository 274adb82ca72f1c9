package opstore

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/inbox"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/scheduler"
)

// forgetful publishes the first message of two and loses its answer, once.
type forgetful struct {
	InTurn
	lost bool
}

func (f *forgetful) PublishBoth(ctx context.Context, first, next *nats.Msg) inbox.Answers {
	if !f.lost {
		f.lost = true
		if _, err := f.PublishMsg(ctx, first); err != nil {
			return inbox.Answers{Err: err}
		}
		return inbox.Answers{Err: context.DeadlineExceeded}
	}
	return f.InTurn.PublishBoth(ctx, first, next)
}

func TestStore_DecisionIsToldThoughTheAnswerToItsOperationWasLost(t *testing.T) {
	js := testkit.JetStream(t, testkit.Connect(t, testkit.Server(t).ClientURL()))
	if err := streams.Ensure(t.Context(), js, streams.Configs(events.Streams{}, streams.Limits{})); err != nil {
		t.Fatal(err)
	}
	persister := NewPersister(NewStorage(js, nil), slog.New(slog.DiscardHandler), func() float64 { return 0.5 })
	told := func(operation string) uint64 {
		t.Helper()
		n, err := streams.Count(t.Context(), js, "RETRY_OUTCOMES", "retry.event.retryScheduled.s."+operation)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for name, m := range map[string]scheduler.Message{"submission": {Name: "submission-1"}, "later": {}} {
		op := &events.Operation{ID: events.OperationID("/s", "1", "s", name), EventID: "1", Service: "s", Operation: name, Attempt: 1, Due: time.Now().Add(time.Hour)}
		publisher := &forgetful{InTurn: InTurn{js}}
		s := New(js, persister, Config{Publisher: publisher})
		if err := s.Schedule(t.Context(), op, m, events.Scheduled{About: op.About(), Attempt: 1}); err != nil {
			t.Errorf("%s: scheduling an operation whose first answer is lost ends with %v, want success", name, err)
		}
		if n := told(name); n != 1 || !publisher.lost {
			t.Errorf("%s: the decision is told %d times, want once", name, n)
		}

		// One that another decision stored is told of by whoever stored it.
		other := *op
		other.Due = op.Due.Add(time.Second)
		s = New(js, persister, Config{Publisher: &forgetful{InTurn: InTurn{js}, lost: true}})
		if err := s.Schedule(t.Context(), &other, m, events.Scheduled{About: op.About(), Attempt: 1, DelayMs: 1}); err == nil {
			t.Errorf("%s: scheduling what waits already succeeds, want an error", name)
		}
	}
}
