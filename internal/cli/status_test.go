package cli

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/scheduler/gate"
	"github.com/rebound-mq/rebound/schemas"
)

func TestStatus_CountsTheDeadLetters(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.fails(exitFailure, "no service answers", "status")
	c.bury(2, "billing", "charge")
	c.service()
	status := jsonLines[schemas.Status](t, c.ok("status", "--output", "json"))
	if len(status) != 1 || status[0].Dead != 2 || status[0].Instance == "" {
		t.Errorf("%+v", status)
	}
	if table := c.ok("status"); table == "" {
		t.Error("the table is empty")
	}
	c.fails(exitUsage, `"yaml" is none of table, json`, "status", "--output", "yaml")
	c.fails(exitUsage, "takes no arguments", "status", "now")
}

func TestStatus_ShowsTheHealthThatEveryInstanceSees(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.service()
	c.service()
	if before := c.ok("status"); strings.Contains(before, "HEALTH") {
		t.Errorf("a table of no services is shown:\n%s", before)
	}
	if err := c.nc.Publish("retry.health.connection_pool", []byte(`{"cpuUtilization":95,"queueLength":4}`)); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, patience, "both instances knowing the service", func() bool {
		status := jsonLines[statusWithHealth](t, c.ok("status", "--output", "json"))[0]
		if len(status.Health) != 2 || status.Health[0].Instance == status.Health[1].Instance {
			t.Fatalf("the instances are %+v, want two", status.Health)
		}
		return len(status.Health[0].Services) == 1 && len(status.Health[1].Services) == 1
	})
	table := c.ok("status")
	if n := strings.Count(table, "connection_pool"); n != 1 || !strings.Contains(table, "95%") || !strings.Contains(table, "s ago") {
		t.Errorf("the service has %d rows in\n%s", n, table)
	}
}

func TestStatus_TellsWhatOnlyOneInstanceHasAskedFor(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.service()
	c.service()
	c.ok("submit", "billing", "charge", "--data", "{}")
	testkit.Eventually(t, patience, "an instance knowing that nobody listens", func() bool {
		return strings.Contains(c.ok("status"), "nobody listens on billing.charge")
	})
	for range 20 { // either instance answers
		if table := c.ok("status"); !regexp.MustCompile(`billing:charge +absent +1 .*nobody listens on billing.charge`).MatchString(table) {
			t.Fatalf("the one operation that waits is not told of in\n%s", table)
		}
	}
	if findings := c.run("doctor").stdout; !strings.Contains(findings, "1 of billing:charge, since ") {
		t.Errorf("the doctor does not tell of the one operation that waits:\n%s", findings)
	}
}

func TestWriteGates_KeysHeldElsewhereAreShownOnce(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	status := &schemas.Status{
		Gates: []scheduler.KeyReport{
			{Key: "a:b", Cause: gate.CauseGovernor, Report: gate.Report{Governed: true, Rate: 10}},
			{Key: "c:d", Cause: gate.CauseBreaker, Shut: true, Held: 3},
		},
		GateCounts: scheduler.GateCounts{All: 2, Shut: 1, Causes: map[gate.Cause]int{gate.CauseGovernor: 1, gate.CauseBreaker: 1}},
	}
	held := schemas.AllHeld([]schemas.Health{
		{Held: []schemas.HeldKey{{Key: "c:d", Held: 2, Cause: gate.CauseBreaker, Because: "old"}, {Key: "a:b", Held: 1, Cause: gate.CauseAbsent, Because: "nobody listens on a.b", Since: at}}},
		{Held: []schemas.HeldKey{{Key: "c:d", Held: 3, Cause: gate.CauseBreaker, Because: "shut"}, {Key: "e:f", Held: 9, Cause: gate.CausePaused, Because: "paused"}}},
	})
	var out bytes.Buffer
	if err := writeGates(&out, status, held); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	var got []string
	for _, l := range lines[1:] {
		f := strings.Fields(l)
		got = append(got, strings.Join(f[:3], " "))
	}
	if want := []string{"e:f paused 9", "a:b absent 1", "c:d breaker 3"}; !slices.Equal(got, want) {
		t.Errorf("the rows are %q, want %q, in\n%s", got, want, out.String())
	}
}

func TestWriteHealth_ShowsWhatIsKnown(t *testing.T) {
	rate, mean, p95, slower, cpu, age, queue := 0.875, 38.25, 1250.0, 0.5, 95.4, 61_500.0, 4
	var out bytes.Buffer
	err := writeHealth(&out, []schemas.Health{
		{Services: []health.Metrics{{ServiceType: "pool", HealthScore: 40, TargetAbsent: true, CPUUtilization: &cpu, QueueLength: &queue, ReportAgeMs: &age}}},
		{Services: []health.Metrics{{
			ServiceType: "billing", HealthScore: 36.4, CircuitBreakerState: breaker.HalfOpen, SuccessRate: &rate, AverageResponseTime: &mean, P95ResponseTime: &p95, ResponseTimeTrend: &slower,
			Samples: 40, InFlight: 2,
		}}},
	})
	want := `
SERVICE  HEALTH  BREAKER    SUCCESS  MEAN    P95    TREND  ATTEMPTS  IN FLIGHT  CPU  MEMORY  POOL  QUEUE  REPORTED
billing  36      HALF_OPEN  88%      38.3ms  1.25s  +50%   40        2          -    -       -     -      -
pool     40      absent     -        -       -      -      0         0          95%  -       -     4      1m2s ago
`
	if err != nil || out.String() != want {
		t.Errorf("got %v\n%s\nwant\n%s", err, out.String(), want)
	}
}
