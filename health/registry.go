package health

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
)

// MaxServices bounds the services that a [Registry] keeps.
const MaxServices = 1024

// ErrFull means that the report of an unknown service was refused because [MaxServices] are known
// already.
var ErrFull = errors.New("the health of too many services is kept already")

// Registry keeps the health of the services as all instances see it: what this one measured, and
// what the others share ([Registry.Share], [Registry.HearEvidence]), put in the order in which the
// attempts ended. It is safe for concurrent use.
//
// Of the last [Samples] attempts each weighs a twentieth of all that is known, or more after a
// pause: pause / (pause + 30 s), a half at most. So a few failed probes outweigh the successes
// from before an outage, and time alone changes nothing.
//
// It keeps at most [MaxServices] of them, so that invented service names cannot fill the memory.
// An attempt at one more replaces the service that was silent for longest. A report cannot do
// that, because it costs its sender nothing.
type Registry struct {
	services *lru.Cache[string, *service]
	host     atomic.Pointer[Host]
	shortage atomic.Pointer[Shortage]
}

// NewRegistry returns an empty registry.
func NewRegistry() *Registry {
	services, err := lru.New[string, *service](MaxServices)
	if err != nil {
		panic(err) // fails only for a size that is not positive
	}
	return &Registry{services: services}
}

// Result is what an attempt says about its target's health.
type Result uint8

const (
	// Unknown says nothing: the result is unknown, or the attempt failed in a way unrelated to
	// health, such as a validation error.
	Unknown Result = iota
	// Succeeded is a success.
	Succeeded
	// Failed is a failure that counts against the target's health.
	Failed
)

// NoResponse is the response time of an attempt without a response, such as one that was refused
// at once. A refusal is quick; counted as a response it would make an unhealthy service look
// fast.
const NoResponse time.Duration = -1

// Begin records the start of an attempt at the service. [Registry.End] must follow.
func (r *Registry) Begin(name string) {
	s := r.heard(name)
	s.mu.Lock()
	s.active++
	s.mu.Unlock()
}

// End records the end of an attempt at now. response is [NoResponse] if there was none; it is
// ignored if result is [Unknown].
func (r *Registry) End(name string, result Result, response time.Duration, now time.Time) {
	r.EndDelayed(name, result, response, 0, now)
}

// EndDelayed is [Registry.End] for a response time of which own may be this instance's delay; see
// [OfTarget].
func (r *Registry) EndDelayed(name string, result Result, response, own time.Duration, now time.Time) {
	s := r.heard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active = max(s.active-1, 0) // a service evicted meanwhile started from 0 again
	if result != Unknown {
		if response >= 0 {
			response = OfTarget(response, own, time.Duration(s.ring.mean*float64(time.Second)))
		}
		s.ring.add(result == Failed, response, now.UnixNano())
		s.stale, s.changed = true, true
	}
}

// Report records the figures that a service reports about itself, at now. Figures missing from
// the report stay and fade. The error is [ErrFull].
func (r *Registry) Report(name string, report events.HealthReport, now time.Time) error {
	s, ok := r.services.Get(name)
	if !ok {
		if r.services.Len() >= MaxServices {
			return fmt.Errorf("service %s: %w", name, ErrFull)
		}
		s = r.heard(name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reported.take(&report, now.UnixNano())
	return nil
}

// heard returns the service, creating it if necessary, and marks it as the one heard most
// recently.
func (r *Registry) heard(name string) *service {
	if s, ok := r.services.Get(name); ok {
		return s
	}
	fresh := new(service)
	if s, ok, _ := r.services.PeekOrAdd(name, fresh); ok {
		return s
	}
	return fresh
}

// Figures are the figures for a decision. Those reported by the service are already multiplied by
// their [ReportWeight]. Unknown figures are 0, except that an unknown success rate is 1 and an
// unknown score 100.
type Figures struct {
	// Score is the health score, 0 to 100, and Vitality the same without the figures of resources;
	// both are meaningful only if Known. Unlike the score that is shown they rise as the evidence
	// gets old, because a decision trusts it less, and know nothing of breakers: those of other keys
	// must not delay an operation, and that of its own holds it anyway.
	Score, Vitality float64
	Known           bool
	// SuccessRate is the share of successes, 0 to 1, among the last Window attempts; Age is the
	// age of the last of them.
	SuccessRate float64
	Window      int
	Age         time.Duration
	// ErrorRate is the reported error rate, 0 to 1, and ErrorRateAge its age, both meaningful
	// only if Reported.
	ErrorRate    float64
	ErrorRateAge time.Duration
	Reported     bool
	// Trend is the relative change of the recent response times against the earlier ones: 0.5 is
	// 50 % slower, 0 the same, below 0 faster.
	Trend float64
	// Variation is the squared coefficient of variation of the response times: their variance
	// over the square of their mean.
	Variation float64
	// CPU, Memory and Pool are utilisations in percent, 0 to 100.
	CPU, Memory, Pool float64
	// Queue is the number of requests waiting at the service.
	Queue float64
	// Load is the service's load average per core, or this instance's [Shortage] of CPU if that is
	// larger. Memory is that of this instance, too, if that is larger.
	Load float64
}

// Figures returns the figures for a decision at now, with the success rate over the last window
// attempts, 1 to 100. It does not allocate.
func (r *Registry) Figures(name string, window int, now time.Time) Figures {
	f := Figures{Score: 100, Vitality: 100, SuccessRate: 1}
	if s, ok := r.services.Peek(name); ok {
		s.mu.Lock()
		s.figures(&f, window, now.UnixNano())
		s.mu.Unlock()
	}
	if own := r.shortage.Load(); own != nil {
		f.Load, f.Memory = max(f.Load, own.Processor), max(f.Memory, own.Memory)
	}
	return f
}

// Host is the load of this instance's host, for display.
type Host struct {
	// CPUUtilization and MemoryUtilization are in percent, 0 to 100.
	CPUUtilization    float64 `json:"cpuUtilization"`
	MemoryUtilization float64 `json:"memoryUtilization"`
	// SystemLoad is the load average of the last minute per core; at 1 every core is busy.
	SystemLoad float64 `json:"systemLoad"`
}

// SetHost records the load of this instance's host.
func (r *Registry) SetHost(h Host) { r.host.Store(&h) }

// Host returns the last value of [Registry.SetHost]; ok is false if there is none.
func (r *Registry) Host() (h Host, ok bool) {
	if p := r.host.Load(); p != nil {
		return *p, true
	}
	return Host{}, false
}

// Metrics returns the health of a service for display at now; ok is false if nothing is known of
// it. circuits are the breakers of the services, see [Circuits].
func (r *Registry) Metrics(name string, circuits map[string]breaker.State, now time.Time) (m Metrics, ok bool) {
	m = Metrics{ServiceType: name, HealthScore: 100}
	if s, known := r.services.Peek(name); known {
		m, ok = s.metrics(name, now.UnixNano())
	}
	m.CircuitBreakerState = circuits[name]
	if m.CircuitBreakerState != breaker.Closed || m.TargetAbsent {
		m.HealthScore, ok = min(m.HealthScore, shutScore), true
	}
	return m, ok
}

// All returns the health of every known service at now, sorted by name. circuits are the breakers
// of the services, see [Circuits].
func (r *Registry) All(circuits map[string]breaker.State, now time.Time) []Metrics {
	names := r.services.Keys()
	for name := range circuits {
		if !r.services.Contains(name) {
			names = append(names, name)
		}
	}
	all := []Metrics{}
	for _, name := range names {
		if m, ok := r.Metrics(name, circuits, now); ok {
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b Metrics) int { return strings.Compare(a.ServiceType, b.ServiceType) })
	return all
}

// Circuits returns the worst state of each service's breakers from those of its keys: open, then
// half-open, then closed.
func Circuits(keys map[string]breaker.State) map[string]breaker.State {
	services := make(map[string]breaker.State)
	for key, state := range keys {
		service, _, err := events.SplitKey(key)
		if err == nil && gravity(state) > gravity(services[service]) {
			services[service] = state
		}
	}
	return services
}

// gravity ranks the states of breakers.
func gravity(s breaker.State) int {
	switch s {
	case breaker.Open:
		return 2
	case breaker.HalfOpen:
		return 1
	}
	return 0
}

// Forget drops the services not heard of since the given time, and those of which nothing is
// known any more at now. Call it now and then to release their memory.
func (r *Registry) Forget(since, now time.Time) {
	for _, name := range r.services.Keys() {
		if s, ok := r.services.Peek(name); ok && s.idle(since, now.UnixNano()) {
			r.services.Remove(name)
		}
	}
}
