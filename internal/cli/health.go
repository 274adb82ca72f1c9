package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/schemas"
)

// health asks every instance for the health of the services, as it sees it.
func (s *session) health(ctx context.Context) ([]schemas.Health, error) {
	return askAll[schemas.Health](ctx, s, "health", "the health of the services")
}

// writeHealth writes a table of the services' health, put together from what the
// instances see; nothing when they see none.
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
	t := newTable(w, "SERVICE", "HEALTH", "SUCCESS", "MEAN", "P95", "TREND", "ATTEMPTS", "IN FLIGHT", "CPU", "MEMORY", "POOL", "QUEUE", "REPORTED")
	for _, m := range services {
		t.row(m.ServiceType, fmt.Sprintf("%.0f", m.HealthScore), percentage(m.SuccessRate, 100), took(m.AverageResponseTime), took(m.P95ResponseTime),
			trend(m.ResponseTimeTrend), m.Samples, m.InFlight, percentage(m.CPUUtilization, 1), percentage(m.MemoryUtilization, 1),
			percentage(m.PoolUtilization, 1), number(m.QueueLength), ago(m.ReportAgeMs))
	}
	if err := t.flush(); err != nil || others <= 0 {
		return err
	}
	_, err := fmt.Fprintf(w, "… and %d more %s, none less healthy\n", others, plural(others, "service"))
	return err
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
	return short(*ms)
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
