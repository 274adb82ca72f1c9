package telemetry_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/internal/telemetry"
	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

// manyKeys stand for the gates and breakers of more keys than have metrics of their own.
type manyKeys struct{}

const beyond = 3

func (manyKeys) each(f func(key string)) {
	for i := range telemetry.MaxMeteredKeys + beyond {
		f(fmt.Sprintf("pay:op%d", i))
	}
}

func (m manyKeys) Standings(time.Time) (all []scheduler.KeyReport) {
	m.each(func(key string) {
		all = append(all, scheduler.KeyReport{Key: key, Held: 2, Cause: gate.CauseAbsent})
	})
	return all
}

func (m manyKeys) States() map[string]breaker.State {
	states := make(map[string]breaker.State)
	m.each(func(key string) { states[key] = breaker.Open })
	return states
}

func (manyKeys) All(map[string]breaker.State, time.Time) []health.Metrics {
	return []health.Metrics{{ServiceType: "pay", HealthScore: 40}}
}

func TestObserve_KeysBeyondTheBoundAreTakenTogether(t *testing.T) {
	m, err := telemetry.NewMetrics("instance", "1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	err = telemetry.Observe(m, telemetry.Sources{
		Now: time.Now, Gates: manyKeys{}, Breakers: manyKeys{}, Health: manyKeys{},
		Instance: func() telemetry.Standing {
			return telemetry.Standing{Breakers: telemetry.Sharing{Store: "nats", Shared: true}, Limits: telemetry.Sharing{Store: "redis"}, Instances: 2, InHand: 7, ReportsRefused: 1, Overdue: 3, Forgotten: 4}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	answer := httptest.NewRecorder()
	m.Handler(slog.New(slog.DiscardHandler)).ServeHTTP(answer, httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/metrics", nil))
	text := answer.Body.String()
	for _, line := range []string{
		fmt.Sprintf(`rebound_held_operations{cause="absent"} %d`, 2*(telemetry.MaxMeteredKeys+beyond)),
		`rebound_held_operations{cause="breaker"} 0`,
		fmt.Sprintf(`rebound_lane_operations{operation="other",service="other"} %d`, 2*beyond),
		`rebound_breaker_state{operation="other",service="other"} 2`, `rebound_gate_open{operation="other",service="other"} 1`,
		`rebound_service_health_score{service="pay"} 40`, `rebound_instances 2`, `rebound_operations_in_hand 7`, `rebound_backpressure 0`,
		`rebound_coordination_shared{of="breakers",store="nats"} 1`, `rebound_coordination_shared{of="limits",store="redis"} 0`,
		`rebound_worker_reports_total{result="refused"} 1`, `rebound_operations_overdue 3`, `rebound_operations_forgotten_total 4`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("the metrics do not show %s", line)
		}
	}
	if n := strings.Count(text, "\nrebound_breaker_state{"); n != telemetry.MaxMeteredKeys+1 {
		t.Errorf("%d keys have a breaker's state of their own, want %d and one for the others", n, telemetry.MaxMeteredKeys)
	}
}
