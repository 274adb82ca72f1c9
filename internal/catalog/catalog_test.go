package catalog_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/catalog"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/schemas"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// newCatalog returns a catalog with something of a key in every stream.
func newCatalog(t *testing.T) (*catalog.Catalog, jetstream.JetStream) {
	t.Helper()
	js := testkit.JetStream(t, testkit.Connect(t, testkit.Server(t).ClientURL()))
	if err := streams.Ensure(t.Context(), js, streams.Configs(events.Streams{}, streams.Limits{})); err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{
		"retry.submit.intake.op", "retry.due.low.waiting.op.1", "retry.dead.dead.op.1", "retry.outcome.retrySuccess.ended.op",
		"retry.outcome.retrySuccess.ended.other", "retry.event.retryScheduled.tried.op", "retry.outcome.retryFailed.-invalid-.-invalid-",
	} {
		if _, err := js.Publish(t.Context(), subject, nil); err != nil {
			t.Fatal(err)
		}
	}
	return &catalog.Catalog{
		JetStream: js, InUse: func() []string { return []string{"used:op"} }, Named: func() []string { return []string{"named", "named:op"} },
	}, js
}

func TestCatalog_FindsWhatWasEverSeen(t *testing.T) {
	t.Parallel()
	c, _ := newCatalog(t)
	for _, service := range []string{"intake", "waiting", "dead", "ended", "tried", "used", "named"} {
		for name, want := range map[string]bool{service: true, service + ":op": true, service + ":po": false, service + "x": false} {
			found, err := c.Find(t.Context(), schemas.KeyQuery{Name: name})
			if err != nil || found.Known != want {
				t.Errorf("%s is known: %v with error %v, want %v", name, found.Known, err, want)
			}
		}
	}
}

func TestCatalog_NamesTheNearestAndLists(t *testing.T) {
	t.Parallel()
	c, js := newCatalog(t)
	for name, want := range map[string]string{
		"endde": "ended", "endde:other": "ended:other", "ended:ohter": "ended:other", "used:opp": "used:op", "used:quite": "", "zzzzzz:op": "", "Named": "named",
	} {
		found, err := c.Find(t.Context(), schemas.KeyQuery{Name: name})
		if got := strings.Join(found.Nearest, " "); err != nil || got != want {
			t.Errorf("nearest to %s is %q with error %v, want %q", name, got, err, want)
		}
	}
	found, err := c.Find(t.Context(), schemas.KeyQuery{Prefix: "e", Limit: 2})
	if want := []string{"ended", "ended:op"}; err != nil || !slices.Equal(found.Names, want) {
		t.Errorf("with e begin %v with error %v, want %v", found.Names, err, want)
	}
	for _, q := range []schemas.KeyQuery{{Name: "bill*"}, {Name: "a.b"}, {Limit: -1}, {Limit: 1001}} {
		if _, err := c.Find(t.Context(), q); err == nil {
			t.Errorf("the query %+v is answered", q)
		}
	}
	if err := js.DeleteStream(context.WithoutCancel(t.Context()), "RETRY_DEAD"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Find(t.Context(), schemas.KeyQuery{Name: "unknown"}); err == nil {
		t.Error("what is unknown while a stream is missing is answered")
	}
}
