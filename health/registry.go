package health

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/rebound-mq/rebound/events"
)

// MaxServices is how many services a [Registry] keeps at most.
const MaxServices = 1024

// ErrFull says that a report of a service that is not known yet is refused,
// because as many services are known as may be.
var ErrFull = errors.New("the health of too many services is kept already")

// Registry keeps the health of the services, as this instance sees it. It is safe
// for concurrent use.
//
// It keeps at most [MaxServices] of them, so that endless service names fill no
// memory. One more takes the place of the one that was silent for longest, but only
// an attempt can do that: reports, which cost their sender nothing, push nobody out.
type Registry struct {
	services *lru.Cache[string, *service]
	host     atomic.Pointer[Host]
}

// NewRegistry returns a registry that knows nothing.
func NewRegistry() *Registry {
	services, err := lru.New[string, *service](MaxServices)
	if err != nil {
		panic(err) // only a size that is not positive is an error
	}
	return &Registry{services: services}
}

// Result is what an attempt says of its target's health.
type Result uint8

const (
	// Unknown says nothing: it is not known how the attempt went, or it failed in
	// a way that does not speak of health, such as a validation error.
	Unknown Result = iota
	// Succeeded is a success.
	Succeeded
	// Failed is a failure that speaks of the target's health.
	Failed
)

// NoResponse stands for the response time of an attempt that had none, such as
// one that was refused at once. A refusal is quick; counted as a response it
// would make an ill service look fast.
const NoResponse time.Duration = -1

// Begin says that an attempt at the service begins. [Registry.End] must follow.
func (r *Registry) Begin(name string) {
	s := r.heard(name)
	s.mu.Lock()
	s.active++
	s.mu.Unlock()
}

// End says that an attempt has ended at now, and how. The response time is
// [NoResponse] where there was none; with [Unknown] it is ignored.
func (r *Registry) End(name string, result Result, response time.Duration, now time.Time) {
	s := r.heard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active = max(s.active-1, 0) // a service that was pushed out meanwhile began at 0 again
	if result != Unknown {
		s.ring.add(result == Failed, response, now.UnixNano())
	}
}

// Report takes over the figures that a service reports of itself, at now.
// Figures that it does not report stay as they are and fade. The error is
// [ErrFull].
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

// heard returns the service, newly made if need be, and makes it the one that was heard
// of last.
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

// Figures are what a decision goes by. Every figure that the service reports is
// times its [ReportWeight] already. What is not known is 0, but a success rate
// and a score that are not known are 1 and 100.
type Figures struct {
	// Score is the health score, 0 to 100; it counts only when Known.
	Score float64
	Known bool
	// SuccessRate is the share of successes, 0 to 1, among the last Window
	// attempts, and Age how long ago the last of these ended.
	SuccessRate float64
	Window      int
	Age         time.Duration
	// ErrorRate is the one that the service reports, 0 to 1, and ErrorRateAge how
	// long ago it did; both count only when Reported.
	ErrorRate    float64
	ErrorRateAge time.Duration
	Reported     bool
	// Trend is the relative change of the recent response time against the longer
	// run: 0.5 is half as slow again, 0 the same, below 0 faster.
	Trend float64
	// Variation is the squared coefficient of variation of the response times:
	// their variance over the square of their mean.
	Variation float64
	// CPU, Memory and Pool are utilisations in percent, 0 to 100.
	CPU, Memory, Pool float64
	// Queue is how many requests wait at the service.
	Queue float64
	// Load is the load average per core, the larger of the service's and of our
	// own host's.
	Load float64
}

// Figures returns what a decision at now goes by, with the success rate over the
// last window attempts, 1 to 100. It allocates nothing.
func (r *Registry) Figures(name string, window int, now time.Time) Figures {
	f := Figures{Score: 100, SuccessRate: 1}
	if s, ok := r.services.Peek(name); ok {
		f = s.figures(window, now.UnixNano())
	}
	if host := r.host.Load(); host != nil {
		f.Load = max(f.Load, host.SystemLoad)
	}
	return f
}

// Host is how busy the host of this instance is.
type Host struct {
	// CPUUtilization and MemoryUtilization are in percent, 0 to 100.
	CPUUtilization    float64 `json:"cpuUtilization"`
	MemoryUtilization float64 `json:"memoryUtilization"`
	// SystemLoad is the load average of the last minute per core; 1 keeps every
	// core busy.
	SystemLoad float64 `json:"systemLoad"`
}

// SetHost says how busy our own host is.
func (r *Registry) SetHost(h Host) { r.host.Store(&h) }

// Host returns what [Registry.SetHost] said last; ok is false before that.
func (r *Registry) Host() (h Host, ok bool) {
	if p := r.host.Load(); p != nil {
		return *p, true
	}
	return Host{}, false
}

// Metrics returns the health of a service as it is shown at now; ok is false when
// nothing is known of it.
func (r *Registry) Metrics(name string, now time.Time) (m Metrics, ok bool) {
	s, ok := r.services.Peek(name)
	if !ok {
		return Metrics{}, false
	}
	return s.metrics(name, now.UnixNano())
}

// All returns the health of every service that anything is known of at now, by name.
func (r *Registry) All(now time.Time) []Metrics {
	all := []Metrics{}
	for _, name := range r.services.Keys() {
		if m, ok := r.Metrics(name, now); ok {
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b Metrics) int { return strings.Compare(a.ServiceType, b.ServiceType) })
	return all
}

// Forget drops the services that were silent since a time, and those that nothing is
// known of any more at now. Calling it now and then gives their memory back.
func (r *Registry) Forget(since, now time.Time) {
	for _, name := range r.services.Keys() {
		if s, ok := r.services.Peek(name); ok && s.idle(since, now.UnixNano()) {
			r.services.Remove(name)
		}
	}
}
