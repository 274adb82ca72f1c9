package health

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/rebound-mq/rebound/events"
)

// Metrics is the health of one service for display (the original design's ServiceHealthMetrics).
// Unknown figures are nil and omitted from the JSON form.
type Metrics struct {
	ServiceType string `json:"serviceType"`
	// HealthScore is 0 to 100, see [Condition.Score].
	HealthScore float64 `json:"healthScore"`
	// SuccessRate and ErrorRate, 0 to 1 with the sum 1, are measured over the last [Samples]
	// attempts, or reported where the report is worse or the only source.
	SuccessRate *float64 `json:"successRate,omitempty"`
	ErrorRate   *float64 `json:"errorRate,omitempty"`
	// AverageResponseTime is measured, or reported if nothing was measured. P95ResponseTime is
	// the 95th percentile of the measurements. Both are in milliseconds.
	AverageResponseTime *float64 `json:"averageResponseTime,omitempty"`
	P95ResponseTime     *float64 `json:"p95ResponseTime,omitempty"`
	// ResponseTimeTrend is the relative change of the last 10 response times against the earlier
	// ones: 0.5 is 50 % slower, below 0 is faster.
	ResponseTimeTrend *float64 `json:"responseTimeTrend,omitempty"`

	// The figures last reported by the service: utilisations in percent, 0 to 100, the load
	// average per core, and counts.
	CPUUtilization    *float64 `json:"cpuUtilization,omitempty"`
	MemoryUtilization *float64 `json:"memoryUtilization,omitempty"`
	PoolUtilization   *float64 `json:"poolUtilization,omitempty"`
	SystemLoad        *float64 `json:"systemLoad,omitempty"`
	ActiveConnections *int     `json:"activeConnections,omitempty"`
	QueueLength       *int     `json:"queueLength,omitempty"`

	// InFlight counts the unfinished attempts at the service.
	InFlight int `json:"inFlight"`
	// Samples counts the remembered attempts. SampleAgeMs is the age of the last one, in
	// milliseconds.
	Samples     int      `json:"samples"`
	SampleAgeMs *float64 `json:"sampleAgeMs,omitempty"`
	// ReportAgeMs is the age of the service's last report, in milliseconds.
	ReportAgeMs *float64 `json:"reportAgeMs,omitempty"`
}

// metrics returns the service's health for display; ok is false if nothing is known.
func (s *service) metrics(name string, now int64) (m Metrics, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, r := s.condition(now), &s.reported
	m = Metrics{ServiceType: name, HealthScore: c.Score(), InFlight: s.active, Samples: c.Samples}
	errorRate := c.ErrorRate
	if c.Samples > 0 {
		errorRate = max(errorRate, float64(c.Failures)/float64(c.Samples))
		m.SampleAgeMs = milliseconds(c.Age)
		s.ring.show(&m)
	}
	if c.Samples > 0 || r.errorRate.age(now) < ReportMaxAge {
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
	return m, m.Samples > 0 || m.InFlight > 0 || m.ReportAgeMs != nil
}

// show sets the figures of the response times.
func (r *ring) show(m *Metrics) {
	p95, ok := r.percentile(95)
	if !ok {
		return
	}
	mean, trend := r.mean*1000, r.trend
	p95 *= 1000
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

// Merge merges the metrics of several instances into one list, sorted by service. Each instance
// measures its own redeliveries and hears every report. Attempts are added up; success rates and
// mean response times are averaged, weighted by attempts; scores, percentiles and trends take the
// worst, and reported figures the latest.
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
		m.SuccessRate = weighted(m.SuccessRate, m.Samples, other.SuccessRate, other.Samples)
		m.AverageResponseTime = weighted(m.AverageResponseTime, m.Samples, other.AverageResponseTime, other.Samples)
		m.HealthScore = min(m.HealthScore, other.HealthScore)
		m.P95ResponseTime = worse(m.P95ResponseTime, other.P95ResponseTime)
		m.ResponseTimeTrend = worse(m.ResponseTimeTrend, other.ResponseTimeTrend)
		m.CPUUtilization = cmp.Or(m.CPUUtilization, other.CPUUtilization)
		m.MemoryUtilization = cmp.Or(m.MemoryUtilization, other.MemoryUtilization)
		m.PoolUtilization = cmp.Or(m.PoolUtilization, other.PoolUtilization)
		m.SystemLoad = cmp.Or(m.SystemLoad, other.SystemLoad)
		m.ActiveConnections = cmp.Or(m.ActiveConnections, other.ActiveConnections)
		m.QueueLength = cmp.Or(m.QueueLength, other.QueueLength)
		if byAge(other.SampleAgeMs, m.SampleAgeMs) < 0 {
			m.SampleAgeMs = other.SampleAgeMs
		}
		m.InFlight += other.InFlight
		m.Samples += other.Samples
	}
	if m.SuccessRate != nil {
		errorRate := 1 - *m.SuccessRate
		m.ErrorRate = &errorRate
	}
	return m
}

// weighted returns the weighted mean of two figures; if one is unknown or has no weight, it
// returns the other.
func weighted(a *float64, na int, b *float64, nb int) *float64 {
	switch {
	case b == nil, a != nil && nb == 0:
		return a
	case a == nil, na == 0:
		return b
	}
	mean := (*a*float64(na) + *b*float64(nb)) / float64(na+nb)
	return &mean
}

func worse(a, b *float64) *float64 {
	if a == nil || b != nil && *b > *a {
		return b
	}
	return a
}
