package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/synadia-io/orbit.go/natsext"

	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/health"
)

// stall is how long after an answer another instance's is waited for.
const stall = 250 * time.Millisecond

// health asks every instance for the health of the services, as it sees it. An
// instance of a version that cannot tell is left out.
func (s *session) health(ctx context.Context) ([]handlers.Health, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	replies, err := natsext.RequestMany(ctx, s.nc.Conn, handlers.ServiceName+".health", nil, natsext.RequestManyStall(stall))
	if err != nil {
		return nil, fmt.Errorf("asking for the health of the services: %w", err)
	}
	all := []handlers.Health{}
	for m, err := range replies {
		switch {
		case errors.Is(err, nats.ErrNoResponders):
			return all, nil
		case err != nil:
			return nil, fmt.Errorf("asking for the health of the services: %w", err)
		case m.Header.Get(micro.ErrorCodeHeader) != "":
			return nil, &answerError{code: m.Header.Get(micro.ErrorCodeHeader), text: m.Header.Get(micro.ErrorHeader)}
		}
		var h handlers.Health
		if err := json.Unmarshal(m.Data, &h); err != nil {
			return nil, fmt.Errorf("decoding the health of the services: %w", err)
		}
		all = append(all, h)
	}
	return all, nil
}

// writeHealth writes a table of the services' health, put together from what the
// instances see; nothing when they see none.
func writeHealth(w io.Writer, instances []handlers.Health) error {
	lists := make([][]health.Metrics, len(instances))
	for i, h := range instances {
		lists[i] = h.Services
	}
	services := health.Merge(lists...)
	if len(services) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	t := newTable(w, "SERVICE", "HEALTH", "SUCCESS", "MEAN", "P95", "TREND", "ATTEMPTS", "IN FLIGHT", "CPU", "MEMORY", "POOL", "QUEUE", "REPORTED")
	for _, m := range services {
		t.row(m.ServiceType, fmt.Sprintf("%.0f", m.HealthScore), percentage(m.SuccessRate, 100), took(m.AverageResponseTime), took(m.P95ResponseTime),
			trend(m.ResponseTimeTrend), m.Samples, m.InFlight, percentage(m.CPUUtilization, 1), percentage(m.MemoryUtilization, 1),
			percentage(m.PoolUtilization, 1), number(m.QueueLength), ago(m.ReportAgeMs))
	}
	return t.flush()
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
