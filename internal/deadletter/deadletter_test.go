package deadletter_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/internal/deadletter"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var died = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// bury keeps n dead letters, one a minute, of alternating keys and codes.
func bury(t *testing.T, n int) (*deadletter.Letters, jetstream.JetStream) {
	t.Helper()
	js := testkit.JetStream(t, testkit.Connect(t, testkit.Server(t).ClientURL()))
	if err := streams.Ensure(context.Background(), js, streams.Configs(events.Streams{}, streams.Limits{})); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		service, code, reason := "billing", "503", events.ReasonExhausted
		if i%2 == 1 {
			service, code, reason = "mail", "404", events.ReasonNotRetryable
		}
		id := events.OperationID("/s", fmt.Sprint(i), service, "op")
		d := events.DeadLetter{
			ID: id, Service: service, Operation: "op", Reason: reason, Detail: "d", DiedAt: died.Add(time.Duration(i) * time.Minute), Data: []byte(fmt.Sprint(i)),
			State: &events.Operation{ID: id, Service: service, Operation: "op", Attempt: 3, History: []events.Attempt{{Number: 3, Code: code}}},
		}
		m, err := wire.EncodeDeadLetter(events.Subjects{}, &d)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.PublishMsg(context.Background(), m); err != nil {
			t.Fatal(err)
		}
	}
	return deadletter.New(js, ""), js
}

func list(t *testing.T, l *deadletter.Letters, f events.DeadLetterFilter) string {
	t.Helper()
	var got []string
	for d, err := range l.List(context.Background(), f) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(d.Data))
	}
	return strings.Join(got, " ")
}

func TestLetters_ListSelectsByEveryFilter(t *testing.T) {
	l, _ := bury(t, 6)
	id := events.OperationID("/s", "3", "mail", "op")
	for name, c := range map[string]struct {
		filter events.DeadLetterFilter
		want   string
	}{
		"everything":                {events.DeadLetterFilter{}, "0 1 2 3 4 5"},
		"a service":                 {events.DeadLetterFilter{Service: "mail"}, "1 3 5"},
		"an operation type":         {events.DeadLetterFilter{Operation: "op", Limit: 2}, "0 1"},
		"another operation type":    {events.DeadLetterFilter{Operation: "other"}, ""},
		"a reason":                  {events.DeadLetterFilter{Reason: events.ReasonExhausted}, "0 2 4"},
		"an error code":             {events.DeadLetterFilter{ErrorCode: "404"}, "1 3 5"},
		"a time on":                 {events.DeadLetterFilter{Since: died.Add(4 * time.Minute)}, "4 5"},
		"a time before":             {events.DeadLetterFilter{Until: died.Add(2 * time.Minute)}, "0 1"},
		"an id":                     {events.DeadLetterFilter{IDs: []string{id}}, "3"},
		"an id of another service":  {events.DeadLetterFilter{IDs: []string{id}, Service: "billing"}, ""},
		"what comes after the 4th":  {events.DeadLetterFilter{After: 4}, "4 5"},
		"a service, a page at time": {events.DeadLetterFilter{Service: "mail", After: 2, Limit: 1}, "3"},
	} {
		if got := list(t, l, c.filter); got != c.want {
			t.Errorf("filtered by %s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestDeadLetterFilter_ReportsAllItsIssues(t *testing.T) {
	f := events.DeadLetterFilter{IDs: []string{"x"}, Service: "a.b", Reason: "bored", Limit: -1, Since: died, Until: died}
	err := f.Check()
	for _, want := range []string{`id "x"`, "service", `reason "bored"`, "limit -1", "is not before"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to tell of %s", err, want)
		}
	}
}

func TestLetters_ReplayIsStoredOnceAndWhatIsGoneIsNotFound(t *testing.T) {
	l, js := bury(t, 2)
	ctx := context.Background()
	d, err := l.Get(ctx, events.OperationID("/s", "0", "billing", "op"))
	if err != nil {
		t.Fatal(err)
	}
	if at, err := l.At(ctx, d.Sequence); err != nil || at.ID != d.ID {
		t.Errorf("at sequence %d there is %+v, %v", d.Sequence, at, err)
	}
	for range 3 {
		if err := l.Replay(ctx, d); err != nil {
			t.Fatal(err)
		}
	}
	s, err := js.Stream(ctx, "RETRY_INTAKE")
	if err != nil {
		t.Fatal(err)
	}
	if n := s.CachedInfo().State.Msgs; n != 1 {
		t.Errorf("asking three times for a replay stored %d requests, want 1", n)
	}
	if err := l.Discard(ctx, d); err != nil {
		t.Fatal(err)
	}
	if err := l.Discard(ctx, d); !errors.Is(err, deadletter.ErrNotFound) {
		t.Errorf("discarding twice gives %v, want ErrNotFound", err)
	}
	if _, err := l.Get(ctx, d.ID); !errors.Is(err, deadletter.ErrNotFound) {
		t.Errorf("getting what is gone gives %v, want ErrNotFound", err)
	}
	if _, err := l.At(ctx, d.Sequence); !errors.Is(err, deadletter.ErrNotFound) {
		t.Errorf("reading at its sequence gives %v, want ErrNotFound", err)
	}
}

func TestLetters_ListLeavesOutWhatDiesMeanwhile(t *testing.T) {
	l, js := bury(t, 3)
	n := 0
	for d, err := range l.List(context.Background(), events.DeadLetterFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n > 3 {
			t.Fatalf("the list goes on with %s, which died while it was read", d.ID)
		}
		// It is replayed and dies again.
		d.Header = nil
		m, err := wire.EncodeDeadLetter(events.Subjects{}, d)
		if err == nil {
			_, err = js.PublishMsg(context.Background(), m)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if n != 3 {
		t.Errorf("the list has %d dead letters, want 3", n)
	}
}
