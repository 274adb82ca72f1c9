package main

import (
	"context"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/client"
	"github.com/rebound-mq/rebound/client/examples/internal/rig"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// stopper is an output that ends a run after so many lines.
type stopper struct {
	lines []string
	after int
	stop  context.CancelFunc
}

func (s *stopper) Write(line []byte) (int, error) {
	if s.lines = append(s.lines, string(line)); len(s.lines) == s.after {
		s.stop()
	}
	return len(line), nil
}

// count runs analytics until it has counted n outcomes.
func count(t *testing.T, nc *nats.Conn, n int) []string {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out := &stopper{after: n, stop: stop}
	if err := run(ctx, nc.ConnectedUrl(), out); err != nil {
		t.Fatal(err)
	}
	if len(out.lines) != n {
		t.Fatalf("%d outcomes were counted, want %d:\n%s", len(out.lines), n, strings.Join(out.lines, ""))
	}
	return out.lines
}

// end submits operations of a campaign that end at once.
func end(t *testing.T, c *client.Client, campaign string, n int, code string) {
	t.Helper()
	policy := &client.Call{Service: "campaign_orchestrator", Operation: "execute_action", Campaign: campaign}
	for range n {
		_, _ = client.Execute(rig.Context(t), c, policy, func(ctx context.Context) (int, error) {
			if client.AttemptFrom(ctx) == 1 || code == "404" {
				return 0, &client.Error{Code: code}
			}
			return 1, nil
		})
	}
}

func stored(t *testing.T, nc *nats.Conn) *Totals {
	t.Helper()
	kept, err := openTotals(rig.Context(t), testkit.JetStream(t, nc))
	if err != nil {
		t.Fatal(err)
	}
	totals, err := kept.load(rig.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	return totals
}

func TestAnalytics_CountsEveryOutcomeOnceThroughRestarts(t *testing.T) {
	nc := rig.Start(t, "campaign_orchestrator: {baseDelay: 1ms, maxDelay: 2ms}")
	c := rig.Client(t, nc)
	end(t, c, "launch", 5, "503")
	end(t, c, "newsletter", 2, "404")
	count(t, nc, 3)
	count(t, nc, 1)
	end(t, c, "launch", 1, "404")
	end(t, c, "", 1, "503")
	lines := count(t, nc, 5)

	for group, want := range map[string]Total{
		"campaign_orchestrator/launch":     {Successes: 5, Failures: 1, Attempts: 11},
		"campaign_orchestrator/newsletter": {Failures: 2, Attempts: 2},
		"campaign_orchestrator":            {Successes: 1, Attempts: 2},
	} {
		got := stored(t, nc).Groups[group]
		if got.SuccessMs <= 0 && got.Successes > 0 {
			t.Errorf("the successes of %s took %v ms, want more than nothing", group, got.SuccessMs)
		}
		got.SuccessMs = 0
		if got != want {
			t.Errorf("%s has the total %+v, want %+v", group, got, want)
		}
	}
	const want = "campaign_orchestrator/newsletter: 0 of 2 retried with success, 1.0 attempts each\n"
	if all := strings.Join(lines, ""); !strings.Contains(all, want) {
		t.Errorf("it printed\n%swant a line\n%s", all, want)
	}
}

func TestAnalytics_SecondInstanceCountsNothing(t *testing.T) {
	nc := rig.Start(t, "default: {}")
	kept := make([]*keptTotals, 2)
	for i := range kept {
		var err error
		if kept[i], err = openTotals(rig.Context(t), testkit.JetStream(t, nc)); err != nil {
			t.Fatal(err)
		}
	}
	for revision := range uint64(2) { // the first value and a later one
		for _, k := range kept {
			if _, err := k.load(rig.Context(t)); err != nil {
				t.Fatal(err)
			}
		}
		if err := kept[0].store(rig.Context(t), &Totals{Counted: 10 + revision}); err != nil {
			t.Fatal(err)
		}
		if err := kept[1].store(rig.Context(t), &Totals{Counted: 20}); err == nil {
			t.Error("totals changed by another instance are overwritten, want an error")
		}
		if got := stored(t, nc).Counted; got != 10+revision {
			t.Errorf("the totals contain outcomes up to %d, want %d, as the first counted", got, 10+revision)
		}
	}
}
