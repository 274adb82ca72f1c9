package cli

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/internal/cli/terminal"
	"github.com/rebound-mq/rebound/internal/wording"
	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/schemas"
)

// shownWorst is how many rows the tables of a status have, so that it fits on a page.
const shownWorst = 8

// writeStatusPauses prints the first pauses, and how many others there are.
func writeStatusPauses(w io.Writer, pauses []events.Pause) error {
	if len(pauses) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	if err := writePauses(w, pauses[:min(shownWorst, len(pauses))]); err != nil || len(pauses) <= shownWorst {
		return err
	}
	others := len(pauses) - shownWorst
	_, err := fmt.Fprintf(w, "… and %d more %s; `rebound pause` lists all\n", others, wording.Plural(others, "pause"))
	return err
}

// writeWorstBreakers prints the worst breakers that are not closed, and how many
// others there are.
func writeWorstBreakers(w io.Writer, status *schemas.Status) error {
	shown := status.Breakers[:min(shownWorst, len(status.Breakers))]
	if err := writeBreakers(w, shown); err != nil {
		return err
	}
	counts := status.BreakerCounts
	others := map[string]int{"open": counts.Open, "half-open": counts.HalfOpen}
	for _, b := range shown {
		if b.State == breaker.HalfOpen {
			others["half-open"]--
		} else {
			others["open"]--
		}
	}
	return writeOthers(w, counts.NotClosed()-len(shown), "breaker", others)
}

// writeOthers prints how many things a table leaves out, by kind.
func writeOthers(w io.Writer, n int, thing string, by map[string]int) error {
	if n <= 0 {
		return nil
	}
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(by)) {
		if by[what] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", by[what], what))
		}
	}
	_, err := fmt.Fprintf(w, "… and %d more %s: %s\n", n, wording.Plural(n, thing), strings.Join(parts, ", "))
	return err
}

// writeGates prints the worst gates that limit something, and how many others there
// are. held are the keys whose operations do not go on at any instance.
func writeGates(w io.Writer, status *schemas.Status, held []schemas.HeldKey) error {
	gates := slices.DeleteFunc(slices.Clone(status.Gates), func(g scheduler.KeyReport) bool { return g.Cause == "" && !g.Governed })
	gates = gates[:min(shownWorst, len(gates))]
	elsewhere := slices.DeleteFunc(slices.Clone(held), func(k schemas.HeldKey) bool {
		return slices.ContainsFunc(gates, func(g scheduler.KeyReport) bool { return k.Key == g.Key && g.HeldUp() > 0 })
	})
	elsewhere = elsewhere[:min(shownWorst, len(elsewhere))]
	if len(gates)+len(elsewhere) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	t := terminal.NewTable(w, "GATE", "LIMITED BY", "HELD", "SINCE", "ASKED AGAIN", "IN FLIGHT", "GOVERNED AT", "BECAUSE")
	for _, k := range elsewhere {
		t.Row(k.Key, string(k.Cause), k.Held, k.Since, k.Next, "", "", k.Because)
	}
	for _, g := range gates {
		if slices.ContainsFunc(elsewhere, func(k schemas.HeldKey) bool { return k.Key == g.Key }) {
			continue
		}
		rate := ""
		if g.Governed {
			rate = fmt.Sprintf("%.0f/s", g.Rate)
		}
		t.Row(g.Key, string(g.Cause), max(g.Held, g.HeldUp()), g.Since, g.Next, g.InFlight, rate, g.Reason())
	}
	if err := t.Flush(); err != nil {
		return err
	}
	n, others := -len(gates), make(map[string]int)
	for cause, limited := range status.GateCounts.Causes {
		n, others[string(cause)] = n+limited, limited
	}
	for _, g := range gates {
		others[string(g.Cause)]--
	}
	return writeOthers(w, n, "gate", others)
}

// coordinationRows adds the common state of the instances to a table.
func coordinationRows(t *terminal.Table, c *health.Coordination) {
	if c.TotalInstances == 0 {
		return // the service is of a version that does not say
	}
	t.Row("instances", c.TotalInstances)
	t.Row("active retries", c.ActiveRetries)
	success := c.GlobalSuccessRate
	t.Row("success rate, last minute", fmt.Sprintf("%s of %s", percentage(&success, 100), wording.Many(c.Samples, "attempt")))
	t.Row("failing services", fmt.Sprintf("%d of %d with attempts lately", c.FailingServices, c.VotingServices))
	t.Row("global backpressure", pressureOf(c))
}

func pressureOf(c *health.Coordination) string {
	if !c.GlobalBackpressure {
		return "off"
	}
	delay := time.Duration(c.CoordinatedDelay * float64(time.Millisecond))
	return fmt.Sprintf("on since %s by %s, for %s at least", wording.Moment(c.Backpressure.Since), c.Backpressure.Cause, delay.Round(100*time.Millisecond))
}

// writeInstances writes a table of the instances; nothing if none is known.
func writeInstances(w io.Writer, c *health.Coordination) error {
	if len(c.Instances) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	t := terminal.NewTable(w, "INSTANCE", "HOST", "VERSION", "IN FLIGHT", "IN HAND", "SUCCEEDED", "FAILED", "OVERLOAD", "LIMIT", "LOAD", "CPU", "MEMORY", "STORE", "SHARE", "HEARD")
	for _, i := range c.Instances {
		share := c.RecommendedDistribution[i.ID]
		t.Row(i.ID, i.HostName, i.Version, i.InFlight, i.InHand, i.Succeeded, i.Failed, percentage(&i.Overload, 100), limitOf(i.Capacity), fmt.Sprintf("%.2f", i.SystemLoad),
			percentage(&i.CPUUtilization, 1), percentage(&i.MemoryUtilization, 1), wording.Short(i.StoreDelayMs), percentage(&share, 100), ago(&i.HeardMs))
	}
	return t.Flush()
}

// limitOf returns how many operations an instance may have in hand and what lowers that.
func limitOf(c events.Capacity) string {
	switch {
	case c.InHandLimit == 0:
		return ""
	case c.LimitedBy == "":
		return fmt.Sprint(c.InHandLimit)
	}
	return fmt.Sprintf("%d by %s", c.InHandLimit, c.LimitedBy)
}

// writeHealth writes a table of the services' health, merged from what the instances
// see; nothing if they see none.
func writeHealth(w io.Writer, instances []schemas.Health) error {
	lists := make([][]health.Metrics, len(instances))
	for i, h := range instances {
		lists[i] = h.Services
	}
	services := health.Merge(lists...)
	if len(services) == 0 {
		return nil
	}
	others := len(services) - shownWorst
	if others > 0 {
		slices.SortStableFunc(services, func(a, b health.Metrics) int { return cmp.Compare(a.HealthScore, b.HealthScore) })
		services = services[:shownWorst]
	}
	fmt.Fprintln(w)
	t := terminal.NewTable(w, "SERVICE", "HEALTH", "BREAKER", "SUCCESS", "MEAN", "P95", "TREND", "ATTEMPTS", "IN FLIGHT", "CPU", "MEMORY", "POOL", "QUEUE", "REPORTED")
	for _, m := range services {
		t.Row(m.ServiceType, fmt.Sprintf("%.0f", m.HealthScore), shutBy(&m), percentage(m.SuccessRate, 100), took(m.AverageResponseTime), took(m.P95ResponseTime),
			trend(m.ResponseTimeTrend), m.Samples, m.InFlight, percentage(m.CPUUtilization, 1), percentage(m.MemoryUtilization, 1),
			percentage(m.PoolUtilization, 1), number(m.QueueLength), ago(m.ReportAgeMs))
	}
	if err := t.Flush(); err != nil || others <= 0 {
		return err
	}
	_, err := fmt.Fprintf(w, "… and %d more %s, none less healthy\n", others, wording.Plural(others, "service"))
	return err
}

// shutBy returns the worst state of a service's breakers, or that nobody listens on a target.
func shutBy(m *health.Metrics) string {
	if m.TargetAbsent && m.CircuitBreakerState == breaker.Closed {
		return "absent"
	}
	return m.CircuitBreakerState.String()
}

// The cells of figures that may not be known.

func percentage(v *float64, times float64) string {
	if v == nil {
		return ""
	}
	return fmt.Sprintf("%.0f%%", *v*times)
}

func trend(v *float64) string {
	if v == nil {
		return ""
	}
	return fmt.Sprintf("%+.0f%%", *v*100)
}

func took(ms *float64) string {
	if ms == nil {
		return ""
	}
	return wording.Short(*ms)
}

func ago(ms *float64) string {
	if ms == nil {
		return ""
	}
	return (time.Duration(*ms) * time.Millisecond).Round(time.Second).String() + " ago"
}

func number(n *int) string {
	if n == nil {
		return ""
	}
	return fmt.Sprint(*n)
}
