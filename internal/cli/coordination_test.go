package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/internal/cli/terminal"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/schemas"
)

func TestStatus_ShowsTheInstances(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.service()
	c.service()
	var status schemas.Status
	testkit.Eventually(t, patience, "both instances being known", func() bool {
		status = jsonLines[schemas.Status](t, c.ok("status", "--output", "json"))[0]
		return status.RetryCoordination.TotalInstances == 2
	})
	v := status.RetryCoordination
	if v.CoordinationKey != "retry" || len(v.Instances) != 2 || len(v.RecommendedDistribution) != 2 {
		t.Errorf("the instances are shown as %+v", v)
	}
	table := c.ok("status")
	for _, i := range v.Instances {
		if strings.Count(table, "\n"+i.ID) != 1 {
			t.Errorf("instance %s has no row of its own in\n%s", i.ID, table)
		}
	}
	for _, want := range []string{"instances", "active retries", "global backpressure", "SHARE"} {
		if !strings.Contains(table, want) {
			t.Errorf("%q is not in\n%s", want, table)
		}
	}
}

func TestWriteInstances_ShowsEveryInstance(t *testing.T) {
	c := health.Coordination{
		TotalInstances: 2, ActiveRetries: 12, GlobalSuccessRate: 0.25, Samples: 400, VotingServices: 5, FailingServices: 4, GlobalBackpressure: true, CoordinatedDelay: 3210,
		Backpressure:            events.Backpressure{On: true, Cause: "failure_rate", Since: time.Date(2026, 3, 1, 12, 0, 0, 0, time.Local)},
		RecommendedDistribution: map[string]float64{"a": 0.8, "b": 0.2},
		Instances: []health.Instance{
			{InstanceReport: events.InstanceReport{
				ID: "a", HostName: "worker-1", Version: "1.0.0", InFlight: 8, InHand: 20, Succeeded: 60, Failed: 180,
				CPUUtilization: 22.5, MemoryUtilization: 48.1, SystemLoad: 0.25, StoreDelayMs: 1.2,
			}, Capacity: events.Capacity{Overload: 1.5, InHandLimit: 512, LimitedBy: "memory"}},
			{InstanceReport: events.InstanceReport{ID: "b", Version: "1.0.0", SystemLoad: 2}, HeardMs: 1400},
		},
	}
	var out bytes.Buffer
	figures := terminal.NewTable(&out)
	coordinationRows(figures, &c)
	if err := figures.Flush(); err != nil {
		t.Fatal(err)
	}
	err := writeInstances(&out, &c)
	want := `instances                  2
active retries             12
success rate, last minute  25% of 400 attempts
failing services           4 of 5 with attempts lately
global backpressure        on since 2026-03-01 12:00:00.000 by failure_rate, for 3.2s at least

INSTANCE  HOST      VERSION  IN FLIGHT  IN HAND  SUCCEEDED  FAILED  OVERLOAD  LIMIT          LOAD  CPU  MEMORY  STORE  SHARE  HEARD
a         worker-1  1.0.0    8          20       60         180     150%      512 by memory  0.25  22%  48%     1.2ms  80%    0s ago
b         -         1.0.0    0          0        0          0       0%        -              2.00  0%   0%      0s     20%    1s ago
`
	if err != nil || out.String() != want {
		t.Errorf("got %v\n%s\nwant\n%s", err, out.String(), want)
	}
	out.Reset()
	coordinationRows(figures, &health.Coordination{})
	if err := writeInstances(&out, &health.Coordination{}); err != nil || out.Len() > 0 {
		t.Errorf("of a service that tells nothing of its instances %q is shown, %v", out.String(), err)
	}
}
