package cli

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/cli/command"
	"github.com/rebound-mq/rebound/internal/testkit"
)

// anyOutcome is what the tests read of a line.
type anyOutcome struct{ Event, ID, Service, Operation, Outcome, Reason string }

func TestOutcomes_FollowsUntilItsCount(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.service()
	r := c.start(nil, "outcomes", "--count", "1", "--output", "json")
	testkit.Eventually(t, patience, "the command follows", func() bool { return c.consumers("RETRY_OUTCOMES") == 1 })
	id := strings.TrimSpace(c.ok("submit", "billing", "charge", "--error-code", "403"))
	out := r.wait()
	if got := jsonLines[anyOutcome](t, out.stdout); out.code != 0 || len(got) != 1 || got[0].ID != id || got[0].Event != "retryFailed" || got[0].Reason != "not_retryable" {
		t.Errorf("%+v", out)
	}
}

func TestOutcomes_EndsWellWhenInterrupted(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	r := c.start(nil, "outcomes")
	testkit.Eventually(t, patience, "the command follows", func() bool { return c.consumers("RETRY_OUTCOMES") == 1 })
	r.interrupt()
	if out := r.wait(); out.code != exitOK {
		t.Errorf("%+v", out)
	}
}

func TestOutcomes_SelectsStoredOnes(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.service()
	if _, err := c.nc.Subscribe("ok.charge", reply); err != nil {
		t.Fatal(err)
	}
	if out := c.ok("outcomes", "--no-follow"); out != "" {
		t.Errorf("an empty stream gives %q", out)
	}
	failed := strings.TrimSpace(c.ok("submit", "billing", "charge", "--error-code", "403"))
	won := strings.TrimSpace(c.ok("submit", "shop", "order", "--target", "ok.charge", "--set", "baseDelay=10ms"))
	testkit.Eventually(t, patience, "all events are stored", func() bool { return c.messages("RETRY_OUTCOMES") == 3 })

	for name, tc := range map[string]struct {
		args []string
		want []anyOutcome
	}{
		"all outcomes": {nil, []anyOutcome{{Event: "retryFailed", ID: failed}, {Event: "retrySuccess", ID: won}}},
		"successes":    {[]string{"--only", "success"}, []anyOutcome{{Event: "retrySuccess", ID: won}}},
		"failures":     {[]string{"--only", "failed"}, []anyOutcome{{Event: "retryFailed", ID: failed}}},
		"a service":    {[]string{"--service", "shop"}, []anyOutcome{{Event: "retrySuccess", ID: won}}},
		"events": {
			[]string{"--events", "--operation", "order", "--since", "1h"},
			[]anyOutcome{{Event: "retryScheduled", ID: won}, {Event: "retrySuccess", ID: won}},
		},
		"a count":       {[]string{"--count", "1"}, []anyOutcome{{Event: "retryFailed", ID: failed}}},
		"nothing since": {[]string{"--since", "2100-01-01T00:00:00Z"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := jsonLines[anyOutcome](t, c.ok(append([]string{"outcomes", "--no-follow", "--output", "json"}, tc.args...)...))
			if len(got) != len(tc.want) {
				t.Fatalf("%+v, want %+v", got, tc.want)
			}
			for _, w := range tc.want {
				found := false
				for _, g := range got {
					found = found || g.Event == w.Event && g.ID == w.ID
				}
				if !found && name != "a count" {
					t.Errorf("%+v, want %+v", got, tc.want)
				}
			}
		})
	}
	out := c.ok("outcomes", "--no-follow", "--events")
	for _, want := range []string{"AT ", "retryScheduled", "again in", "retrySuccess", "retryFailed", "not_retryable", "shop:order"} {
		if !strings.Contains(out, want) {
			t.Errorf("the table lacks %q:\n%s", want, out)
		}
	}
}

func TestOutcomes_RefusesInvalidFlagsAndAMissingStream(t *testing.T) {
	t.Parallel()
	c := bareCLI(t, testkit.Server(t).ClientURL())
	c.fails(exitFailure, "there is no stream RETRY_OUTCOMES", "outcomes")
	c.fails(exitUsage, "none of success, failed", "outcomes", "--only", "all")
	c.fails(exitUsage, `has the character '.'`, "outcomes", "--service", "a.b")
	c.fails(exitUsage, "neither how long ago", "outcomes", "--since", "yesterday")
	c.fails(exitUsage, "--count -1 is negative", "outcomes", "--count", "-1")
}

// TestOutcomes_EachEventHasADetail prints a row for every kind of event.
func TestOutcomes_EachEventHasADetail(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 5, 0, time.Local)
	about := events.About{ID: "0f1e2d3c4b5a69788796a5b4c3d2e1f0", Service: "billing", Operation: "charge"}
	outcome := events.Outcome{About: about, Attempts: 3, ElapsedMs: 1500, Reason: events.ReasonExhausted, Detail: "all 3 attempts", Error: &events.Failure{Code: "503", Message: "busy"}}
	tripped := events.BreakerChange{Key: "billing:charge", From: "CLOSED", To: "OPEN", Cause: "failures", FailureCount: 5, NextAttemptTime: at}
	held := events.BreakerChange{Key: "billing:charge", From: "OPEN", To: "OPEN", Cause: "held", By: "ann", Held: true, Note: "the database moves", NextAttemptTime: at}
	bill, err := events.ParsePattern("bill*")
	if err != nil {
		t.Fatal(err)
	}
	paused := events.PauseChange{Pattern: bill, Paused: true, Cause: events.CausePaused, By: "ann", Note: "the database moves"}
	pressure := events.BackpressureChange{Backpressure: events.Backpressure{On: true, Cause: "failure_rate"}, ActiveRetries: 1, VotingServices: 4, FailingServices: 3}
	for _, tc := range []struct {
		subject string
		data    any
		want    string
	}{
		{"retry.outcome.retrySuccess.billing.charge", outcome, "billing:charge 0f1e2d3c4b5a69788796a5b4c3d2e1f0 3 after 1.5s"},
		{"retry.outcome.retryFailed.billing.charge", outcome, "billing:charge 0f1e2d3c4b5a69788796a5b4c3d2e1f0 3 exhausted: all 3 attempts (503 busy)"},
		{"retry.event.retryScheduled.billing.charge", events.Scheduled{About: about, Attempt: 2, DelayMs: 250, Strategy: "fixed"}, "billing:charge 0f1e2d3c4b5a69788796a5b4c3d2e1f0 2 again in 250ms, fixed"},
		{"retry.event.breakerChanged.billing.charge", tripped, "billing:charge 0 CLOSED → OPEN: failures, 5 failures, next attempt at 12:00:05"},
		{"retry.event.breakerChanged.billing.charge", held, "billing:charge 0 OPEN: held by ann, until it is reset: the database moves"},
		{"retry.event.pauseChanged.rebound.all", paused, "bill* 0 paused by ann: the database moves"},
		{"retry.event.backpressureChanged.rebound.all", pressure, "rebound:all 0 on: failure_rate, 3 of 4 services failing, 1 attempt in flight"},
		{"retry.event.backpressureChanged.rebound.all", events.BackpressureChange{VotingServices: 1}, "rebound:all 0 off, 0 of 1 service failing, 0 attempts in flight"},
	} {
		data, err := json.Marshal(tc.data)
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		if err := printRow(&command.App{Stdout: &out}, storedEvent{subject: tc.subject, at: at, data: data}); err != nil {
			t.Fatal(err)
		}
		want := "12:00:05.000 " + strings.Split(tc.subject, ".")[2] + " " + tc.want
		if got := strings.Join(strings.Fields(out.String()), " "); got != want {
			t.Errorf("%s is printed as\n%s\nwant\n%s", tc.subject, got, want)
		}
	}
}
