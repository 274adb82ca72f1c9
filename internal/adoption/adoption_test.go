package adoption_test

import (
	"strings"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/adoption"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// worker is a valid adoption.
func worker() adoption.Adoption {
	return adoption.Adoption{
		Stream: "ORDERS", Consumer: "worker", Service: "orders", Operation: "process", Target: "orders-worker.process",
		AdoptedAt: time.Date(2026, 3, 1, 12, 0, 0, 1, time.UTC),
	}
}

func TestAdoption_EveryIssueIsReported(t *testing.T) {
	if err := worker().Check(events.Subjects{}); err != nil {
		t.Errorf("an adoption in order has the issue %v", err)
	}
	for name, c := range map[string]struct {
		change func(*adoption.Adoption)
		want   string
	}{
		"no stream":                  {func(a *adoption.Adoption) { a.Stream = "" }, "stream is empty"},
		"a consumer with a dot":      {func(a *adoption.Adoption) { a.Consumer = "a.b" }, `consumer "a.b" is no name`},
		"a stream with a wildcard":   {func(a *adoption.Adoption) { a.Stream = ">" }, `stream ">" is no name`},
		"a stream with a line break": {func(a *adoption.Adoption) { a.Stream = "a\nb" }, "is no name"},
		"a long consumer":            {func(a *adoption.Adoption) { a.Consumer = strings.Repeat("c", 256) }, "more than the 255 allowed"},
		"names too long when encoded": {func(a *adoption.Adoption) {
			a.Consumer, a.Stream = strings.Repeat("é", 120), strings.Repeat("é", 120)
		}, "more than the 1024 allowed"},
		"a service with a dot":   {func(a *adoption.Adoption) { a.Service = "a.b" }, "service"},
		"no operation type":      {func(a *adoption.Adoption) { a.Operation = "" }, "operation type is empty"},
		"a target of the server": {func(a *adoption.Adoption) { a.Target = "$JS.API.INFO" }, "belongs to the server"},
	} {
		a := worker()
		c.change(&a)
		if err := a.Check(events.Subjects{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s gives %v, want %q", name, err, c.want)
		}
	}
	if err := (adoption.Adoption{}).Check(events.Subjects{}); strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("an empty adoption has the issues %v, want four", err)
	}
}

func TestAdoption_SourcesAndEventIDsTellMessagesApart(t *testing.T) {
	a, b := worker(), worker()
	a.Stream, a.Consumer = "A/B", "C"
	b.Stream, b.Consumer = "A", "B/C"
	if a.Source() == b.Source() || worker().Source() != "/jetstream/ORDERS/worker" {
		t.Errorf("sources are %s, %s and %s", a.Source(), b.Source(), worker().Source())
	}
	at := time.Unix(1_700_000_000, 5)
	seen := map[string]bool{}
	for _, id := range []string{
		adoption.EventID(at, at, 1), adoption.EventID(at, at, 2), adoption.EventID(at.Add(1), at, 1), adoption.EventID(at, at.Add(1), 1),
	} {
		seen[id] = true
	}
	if len(seen) != 4 || adoption.EventID(at, at, 1) != adoption.EventID(at.UTC(), at.In(time.FixedZone("x", 3600)), 1) {
		t.Errorf("event ids are %v, want four that depend on the moments and the sequence alone", seen)
	}
}
