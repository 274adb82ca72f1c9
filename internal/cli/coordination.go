package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/rebound-mq/rebound/health"
)

// coordinationRows adds to a table of figures what the instances have in common.
func coordinationRows(t *table, c *health.Coordination) {
	if c.TotalInstances == 0 {
		return // the service is of a version that does not tell
	}
	t.row("instances", c.TotalInstances)
	t.row("active retries", c.ActiveRetries)
	success := c.GlobalSuccessRate
	t.row("success rate, last minute", fmt.Sprintf("%s of %s", percentage(&success, 100), many(c.Samples, "attempt")))
	t.row("global backpressure", pressureOf(c))
}

func pressureOf(c *health.Coordination) string {
	if !c.GlobalBackpressure {
		return "off"
	}
	delay := time.Duration(c.CoordinatedDelay * float64(time.Millisecond))
	return fmt.Sprintf("on since %s by %s, for %s at least", moment(c.Backpressure.Since), c.Backpressure.Cause, delay.Round(100*time.Millisecond))
}

// writeInstances writes a table of the instances; nothing when none is told.
func writeInstances(w io.Writer, c *health.Coordination) error {
	if len(c.Instances) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	t := newTable(w, "INSTANCE", "HOST", "VERSION", "IN FLIGHT", "IN HAND", "SUCCEEDED", "FAILED", "LOAD", "CPU", "MEMORY", "STORE", "SHARE", "HEARD")
	for _, i := range c.Instances {
		share := c.RecommendedDistribution[i.ID]
		t.row(i.ID, i.HostName, i.Version, i.InFlight, i.InHand, i.Succeeded, i.Failed, fmt.Sprintf("%.2f", i.SystemLoad),
			percentage(&i.CPUUtilization, 1), percentage(&i.MemoryUtilization, 1), short(i.StoreDelayMs), percentage(&share, 100), ago(&i.HeardMs))
	}
	return t.flush()
}
