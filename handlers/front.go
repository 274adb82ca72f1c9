package handlers

import (
	"encoding/json"
	"net/http"
	"sync"
)

// Front is the HTTP side of an instance from before it serves: until then /healthz
// says that the process lives, and /readyz what it waits for.
type Front struct {
	version string

	mu      sync.Mutex
	reason  string       // guarded by mu
	service http.Handler // nil until the instance serves; guarded by mu
}

// NewFront returns the front of an instance of a version that is starting.
func NewFront(version string) *Front { return &Front{version: version, reason: starting} }

const starting = "the instance is starting"

// Waiting notes what the instance waits for, empty for nothing in particular. It is a
// [Config.Waiting].
func (f *Front) Waiting(reason string) {
	if reason == "" {
		reason = starting
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reason = reason
}

// Open has a service answer from now on.
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
	_ = json.NewEncoder(w).Encode(body) // whoever asked may be gone
}
