package handlers

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/rebound-mq/rebound/internal/pull"
	"github.com/rebound-mq/rebound/internal/telemetry"
	"github.com/rebound-mq/rebound/schemas"
)

// HTTP returns the handler of the service's HTTP side: /healthz says that the
// process lives, /readyz that the instance can work, and /metrics shows its metrics
// to Prometheus.
func (s *Service) HTTP() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		s.writeJSON(w, http.StatusOK, map[string]string{"status": "alive", "instance": s.id, "version": s.config.Version})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.Ready(); err != nil {
			s.writeJSON(w, http.StatusServiceUnavailable, map[string]string{"status": "not ready", "reason": err.Error()})
			return
		}
		// An instance that goes on alone is ready: its operations are safe with NATS.
		s.writeJSON(w, http.StatusOK, s.readiness())
	})
	mux.Handle("GET /metrics", s.metrics.Handler(s.log))
	return mux
}

// readiness is what /readyz says of an instance that is ready.
type readiness struct {
	Status string `json:"status"`
	// Detail says in a sentence what is not as it should be, empty when nothing.
	Detail       string          `json:"detail,omitempty"`
	Coordination schemas.Sharing `json:"coordination"`
	// Instances counts those that this one knows, itself included.
	Instances          int  `json:"instances"`
	GlobalBackpressure bool `json:"globalBackpressure"`
}

func (s *Service) readiness() readiness {
	v := s.Coordination()
	r := readiness{
		Status: "ready", Coordination: s.breakers.coordination(), Instances: v.TotalInstances, GlobalBackpressure: v.GlobalBackpressure,
	}
	var details []string
	switch {
	case s.leases.Divided():
		details = append(details, "coordination is local: the store of the limits is out of reach, and each instance has an even share of them")
	case !r.Coordination.Shared:
		details = append(details, "coordination is local: the store ("+r.Coordination.Store+") is out of reach, and the instance goes on alone")
	}
	r.Detail = strings.Join(append(details, s.warnings()...), "; ")
	return r
}

// warnings say in a sentence each what an instance does not need, and should have.
func (s *Service) warnings() []string {
	var all []string
	for _, problem := range []string{s.clock.Problem(), s.member.PolicyProblem()} {
		if problem != "" {
			all = append(all, problem)
		}
	}
	return all
}

// observe has /metrics show how the instance stands; dues have the due operations in
// hand.
func (s *Service) observe(dues []*pull.Puller) error {
	return telemetry.Observe(s.metrics, telemetry.Sources{
		Now: s.clock.Now, Gates: s.gates, Breakers: s.breakers.group, Health: s.registry,
		Instance: func() telemetry.Standing {
			v := s.Coordination()
			standing := telemetry.Standing{
				Breakers:  telemetry.Sharing{Store: s.breakers.shared, Shared: s.breakers.group.Status().Shared},
				Limits:    telemetry.Sharing{Store: storeName(s.leases.Store), Shared: !s.leases.Divided()},
				Instances: v.TotalInstances, Backpressure: v.GlobalBackpressure,
				ReportsAccepted: s.workReports.taken.Load(), ReportsRefused: s.workReports.refused.Load(),
			}
			for _, p := range dues {
				standing.InHand += p.Unacked()
			}
			return standing
		},
	})
}

func (s *Service) writeJSON(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		s.log.Debug("an HTTP answer could not be written", "error", err)
	}
}
