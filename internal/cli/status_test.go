package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/internal/testkit"
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
