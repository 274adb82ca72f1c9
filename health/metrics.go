package health

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
)

// Metrics is the health of one service for display (the original design's ServiceHealthMetrics).
// Unknown figures are nil and omitted from the JSON form.
type Metrics struct {
	ServiceType string `json:"serviceType"`
	// HealthScore is 0 to 100, see [Condition.Score], and at most 40 while a breaker is not closed
	// or nobody listens on a target.
	HealthScore float64 `json:"healthScore"`
	// CircuitBreakerState is the worst state of the breakers of the service's keys, and TargetAbsent
	// whether nobody listens on a target.
	CircuitBreakerState breaker.State `json:"circuitBreakerState"`
	TargetAbsent        bool          `json:"targetAbsent,omitempty"`
	// SuccessRate and ErrorRate, 0 to 1 with the sum 1, are measured over the last [Samples]
	// attempts, of which the latest weigh most (see [Registry]), or reported where the report is
	// worse or the only source.
	SuccessRate *float64 `json:"successRate,omitempty"`
	ErrorRate   *float64 `json:"errorRate,omitempty"`
	// AverageResponseTime is measured, or reported if nothing was measured. P95ResponseTime is
	// the 95th percentile of the measurements. Both are in milliseconds.
	AverageResponseTime *float64 `json:"averageResponseTime,omitempty"`
	P95ResponseTime     *float64 `json:"p95ResponseTime,omitempty"`
	// ResponseTimeTrend is the relative change of the last 10 response times against the earlier
	// ones, or against 20 ms if those took less: 0.5 is 50 % slower, below 0 is faster.
	ResponseTimeTrend *float64 `json:"responseTimeTrend,omitempty"`

	// The figures last reported by the service: utilisations in percent, 0 to 100, the load
	// average per core, and counts.
	CPUUtilization    *float64 `json:"cpuUtilization,omitempty"`
	MemoryUtilization *float64 `json:"memoryUtilization,omitempty"`
	PoolUtilization   *float64 `json:"poolUtilization,omitempty"`
	SystemLoad        *float64 `json:"systemLoad,omitempty"`
	ActiveConnections *int     `json:"activeConnections,omitempty"`
	QueueLength       *int     `json:"queueLength,omitempty"`

	// InFlight counts the unfinished attempts of this instance at the service.
	InFlight int `json:"inFlight"`
	// Samples counts the remembered attempts, at most [Samples]. SampleAgeMs is the age of the last
	// one, in milliseconds.
	Samples     int      `json:"samples"`
	SampleAgeMs *float64 `json:"sampleAgeMs,omitempty"`
	// ReportAgeMs is the age of the service's last report, in milliseconds.
	ReportAgeMs *float64 `json:"reportAgeMs,omitempty"`
}

// metrics returns the service's health for display; ok is false if nothing is known.
func (s *service) metrics(name string, now int64) (m Metrics, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, r, v := s.condition(now), &s.reported, s.look()
	n, age := v.size(now)
	m = Metrics{ServiceType: name, HealthScore: c.Score(), TargetAbsent: s.absentAt(now), InFlight: s.active, Samples: n}
	errorRate := c.ErrorRate
	if n > 0 {
		errorRate = max(errorRate, v.failed)
		m.SampleAgeMs = milliseconds(age)
		s.showTimes(&m)
	}
	if n > 0 || r.errorRate.at != 0 && r.errorWeight(v.lastSuccess, now) > 0 {
		successRate := 1 - errorRate
		m.SuccessRate, m.ErrorRate = &successRate, &errorRate
	}
	if m.AverageResponseTime == nil {
		m.AverageResponseTime = r.responseMs.shown(now)
	}
	m.CPUUtilization, m.MemoryUtilization = r.cpu.shown(now), r.memory.shown(now)
	m.PoolUtilization, m.SystemLoad = r.pool.shown(now), r.load.shown(now)
	m.ActiveConnections, m.QueueLength = count(r.connections.shown(now)), count(r.queue.shown(now))
	if r.known(now) {
		m.ReportAgeMs = milliseconds(time.Duration(max(now-r.last, 0)))
	}
	return m, m.Samples > 0 || m.InFlight > 0 || m.ReportAgeMs != nil || m.ErrorRate != nil
}

// showTimes sets the figures of the response times.
func (s *service) showTimes(m *Metrics) {
	v := s.look()
	if v.mean <= 0 {
		return
	}
	p95, _ := s.ring.percentile(95)
	mean, trend := v.mean*1000, v.trend
	p95 = max(p95, v.p95) * 1000
	m.AverageResponseTime, m.P95ResponseTime, m.ResponseTimeTrend = &mean, &p95, &trend
}

func milliseconds(d time.Duration) *float64 {
	ms := events.InMilliseconds(d)
	return &ms
}

func count(f *float64) *int {
	if f == nil {
		return nil
	}
	n := int(*f)
	return &n
}

// Merge merges the metrics of several instances into one list, sorted by service. The instances
// share what they measure, so their answers differ only by what one has not heard yet: of the
// measured figures those of the instance that knows the most recent attempt count, of the reported
// ones the latest, of score, breaker and absence the worst. Attempts in flight are added up.
func Merge(instances ...[]Metrics) []Metrics {
	all := slices.Concat(instances...)
	// Latest report first, so that the first non-nil value is the latest.
	slices.SortStableFunc(all, func(a, b Metrics) int {
		return cmp.Or(strings.Compare(a.ServiceType, b.ServiceType), byAge(a.ReportAgeMs, b.ReportAgeMs))
	})
	merged := []Metrics{}
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n].ServiceType == all[0].ServiceType {
			n++
		}
		merged = append(merged, mergeOne(all[:n]))
		all = all[n:]
	}
	return merged
}

// byAge sorts by age, with unknown ages last.
func byAge(a, b *float64) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	return cmp.Compare(*a, *b)
}

// mergeOne merges the metrics of one service, which are sorted by the age of the report.
func mergeOne(all []Metrics) Metrics {
	m := all[0]
	for _, other := range all[1:] {
		m.HealthScore = min(m.HealthScore, other.HealthScore)
		m.TargetAbsent = m.TargetAbsent || other.TargetAbsent
		if gravity(other.CircuitBreakerState) > gravity(m.CircuitBreakerState) {
			m.CircuitBreakerState = other.CircuitBreakerState
		}
		m.CPUUtilization = cmp.Or(m.CPUUtilization, other.CPUUtilization)
		m.MemoryUtilization = cmp.Or(m.MemoryUtilization, other.MemoryUtilization)
		m.PoolUtilization = cmp.Or(m.PoolUtilization, other.PoolUtilization)
		m.SystemLoad = cmp.Or(m.SystemLoad, other.SystemLoad)
		m.ActiveConnections = cmp.Or(m.ActiveConnections, other.ActiveConnections)
		m.QueueLength = cmp.Or(m.QueueLength, other.QueueLength)
		m.InFlight += other.InFlight
	}
	// Which instance measured must not depend on the order of the answers.
	measured := slices.MinFunc(all, func(a, b Metrics) int {
		return cmp.Or(byAge(a.SampleAgeMs, b.SampleAgeMs), cmp.Compare(b.Samples, a.Samples), byAge(a.SuccessRate, b.SuccessRate))
	})
	m.Samples, m.SampleAgeMs = measured.Samples, measured.SampleAgeMs
	m.SuccessRate, m.ErrorRate = measured.SuccessRate, measured.ErrorRate
	m.AverageResponseTime, m.P95ResponseTime = measured.AverageResponseTime, measured.P95ResponseTime
	m.ResponseTimeTrend = measured.ResponseTimeTrend
	return m
}
