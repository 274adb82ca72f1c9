package handlers

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"

	"github.com/rebound-mq/rebound/internal/telemetry"
	"github.com/rebound-mq/rebound/schemas"
)

// http returns the handler of [Service.HTTP].
func (m *monitor) http() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		m.writeJSON(w, http.StatusOK, map[string]string{"status": "alive", "instance": m.id, "version": m.config.Version})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := m.ready(); err != nil {
			m.writeJSON(w, http.StatusServiceUnavailable, map[string]string{"status": "not ready", "reason": err.Error()})
			return
		}
		// An instance without its shared stores is ready: its operations are safe in NATS.
		m.writeJSON(w, http.StatusOK, m.readiness())
	})
	mux.Handle("GET /metrics", m.metrics.Handler(m.log))
	return mux
}

// readiness is the answer of /readyz for an instance that is ready.
type readiness struct {
	Status string `json:"status"`
	// Detail says in a sentence what is not as it should be; empty if nothing.
	Detail       string          `json:"detail,omitempty"`
	Coordination schemas.Sharing `json:"coordination"`
	// Instances counts the instances that this one knows, including itself.
	Instances          int  `json:"instances"`
	GlobalBackpressure bool `json:"globalBackpressure"`
	// Held are the keys that hold operations, those that hold the most first, and why.
	Held []schemas.HeldKey `json:"held,omitempty"`
}

// heldShown is how many keys that hold operations a readiness and a health name.
const heldShown = 10

// held returns the keys whose operations do not go on.
func (m *monitor) held() []schemas.HeldKey {
	worst, _ := m.gates.Worst(heldShown, m.clock.Now())
	var held []schemas.HeldKey
	for _, k := range worst {
		if n := k.HeldUp(); n > 0 {
			held = append(held, schemas.HeldKey{Key: k.Key, Held: n, Cause: k.Cause, Because: k.Reason(), Since: k.Since, Next: k.Next})
		}
	}
	return held
}

func (m *monitor) readiness() readiness {
	v := m.instances()
	r := readiness{
		Status: "ready", Coordination: m.breakers.coordination(), Instances: v.TotalInstances, GlobalBackpressure: v.GlobalBackpressure,
		Held: m.held(),
	}
	var details []string
	switch {
	case m.leases.Divided():
		details = append(details, "coordination is local: the store of the limits is out of reach, and each instance has an even share of them")
	case !r.Coordination.Shared:
		details = append(details, "coordination is local: the store ("+r.Coordination.Store+") is out of reach, and the instance goes on alone")
	}
	r.Detail = strings.Join(append(details, m.warnings()...), "; ")
	return r
}

// warnings returns a sentence for each thing that is not as it should be, although the
// instance can work.
func (m *monitor) warnings() []string {
	var all []string
	for _, problem := range []string{m.clock.Problem(), m.member.PolicyProblem(), m.member.PressureProblem(), m.lanes.Problem(), m.sweeper.Problem()} {
		if problem != "" {
			all = append(all, problem)
		}
	}
	return all
}

// observe adds the state of the instance to /metrics.
func (m *monitor) observe() error {
	return telemetry.Observe(m.metrics, telemetry.Sources{
		Now: m.clock.Now, Gates: m.gates, Breakers: m.breakers.group, Health: m.registry,
		Instance: func() telemetry.Standing {
			v := m.instances()
			standing := telemetry.Standing{
				Breakers:  telemetry.Sharing{Store: m.breakers.shared, Shared: m.breakers.group.Status().Shared},
				Limits:    telemetry.Sharing{Store: storeName(m.leases.Store), Shared: !m.leases.Divided()},
				Instances: v.TotalInstances, Backpressure: v.GlobalBackpressure,
				Overdue: m.sweeper.Overdue(), Forgotten: m.sweeper.Forgotten(),
				ReportsAccepted: m.workReports.taken.Load(), ReportsRefused: m.workReports.refused.Load(),
			}
			for _, i := range v.Instances {
				if i.ID == m.id {
					standing.Overload, standing.InHandLimit = i.Overload, i.InHandLimit
				}
			}
			for _, p := range m.dues {
				standing.InHand += p.Unacked()
			}
			return standing
		},
	})
}

func (m *monitor) writeJSON(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		m.log.Debug("an HTTP answer could not be written", "error", err)
	}
}

// Front is the HTTP side of an instance. Before the instance serves, /healthz says that
// the process lives, and /readyz what it waits for.
type Front struct {
	version string

	mu      sync.Mutex
	reason  string       // guarded by mu
	service http.Handler // nil until the instance serves; guarded by mu
}

// NewFront returns the front of a starting instance.
func NewFront(version string) *Front { return &Front{version: version, reason: starting} }

const starting = "the instance is starting"

// Waiting sets what the instance waits for, empty for nothing in particular. Use it as
// [Config.Waiting].
func (f *Front) Waiting(reason string) {
	if reason == "" {
		reason = starting
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reason = reason
}

// Open makes s answer from now on.
func (f *Front) Open(s *Service) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.service = s.HTTP()
}

// ServeHTTP implements [http.Handler].
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	service, reason := f.service, f.reason
	f.mu.Unlock()
	if service != nil {
		service.ServeHTTP(w, r)
		return
	}
	code, body := http.StatusServiceUnavailable, map[string]string{"status": "not ready", "reason": reason}
	if r.Method == http.MethodGet && r.URL.Path == "/healthz" {
		code, body = http.StatusOK, map[string]string{"status": "alive", "version": f.version}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // the client may be gone
}
