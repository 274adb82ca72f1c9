package health

import (
	"sync"
	"time"

	"github.com/rebound-mq/rebound/events"
)

// service is the health of one service.
type service struct {
	mu       sync.Mutex // guards the fields below; held for a few dozen nanoseconds
	ring     ring
	reported reported
	active   int // attempts in flight

	// peers is what other instances measured, and seen what is known together with the ring,
	// unless stale.
	peers []peer
	seen  view
	stale bool
	// absent is whether nobody listens on a target as far as this instance knows. changed is
	// whether something was measured since sharedAt, in Unix nanoseconds.
	absent, changed bool
	sharedAt        int64
}

// reported holds the figures that a service reports. Each has its own time, because different
// parts of a service may report different figures.
type reported struct {
	errorRate, responseMs, cpu, memory, pool, load, queue, connections figure
	last                                                               int64 // time of the latest report
}

// figure is a reported value and its time, in Unix nanoseconds; 0 is never.
type figure struct {
	value float64
	at    int64
}

// take replaces the figure by a reported value, clamped to 0 and most.
func (f *figure) take(value *float64, most float64, now int64) {
	if value == nil || *value != *value {
		return
	}
	*f = figure{min(max(*value, 0), most), now}
}

// age returns the age of the figure, [ReportMaxAge] if it was never reported.
func (f *figure) age(now int64) time.Duration {
	if f.at == 0 {
		return ReportMaxAge
	}
	return time.Duration(max(now-f.at, 0))
}

// shown returns the value as reported, nil once it is forgotten.
func (f *figure) shown(now int64) *float64 {
	if f.age(now) >= ReportMaxAge {
		return nil
	}
	value := f.value
	return &value
}

// fading computes the weights of figures at one time. Most figures come in one report, so its
// weight is computed once.
type fading struct {
	now, last int64
	weight    float64 // of the latest report
}

func (r *reported) fading(now int64) fading {
	f := figure{at: r.last}
	return fading{now, r.last, ReportWeight(f.age(now))}
}

func (f *fading) of(x *figure) float64 {
	switch {
	case x.value == 0:
		return 0
	case x.at == f.last:
		return x.value * f.weight
	}
	return x.value * ReportWeight(x.age(f.now))
}

// take records a report. If success rate and error rate contradict each other, the worse one
// counts.
func (r *reported) take(report *events.HealthReport, now int64) {
	errorRate := report.ErrorRate
	if report.SuccessRate != nil {
		failed := 1 - *report.SuccessRate
		if errorRate == nil || failed > *errorRate {
			errorRate = &failed
		}
	}
	r.errorRate.take(errorRate, 1, now)
	r.responseMs.take(report.AverageResponseTime, events.MaxHealthFigure, now)
	r.cpu.take(report.CPUUtilization, 100, now)
	r.memory.take(report.MemoryUtilization, 100, now)
	r.pool.take(report.PoolUtilization, 100, now)
	r.load.take(report.SystemLoad, events.MaxHealthFigure, now)
	r.queue.take(whole(report.QueueLength), events.MaxHealthFigure, now)
	r.connections.take(whole(report.ActiveConnections), events.MaxHealthFigure, now)
	r.last = now
}

func whole(n *int) *float64 {
	if n == nil {
		return nil
	}
	f := float64(*n)
	return &f
}

// known reports whether any reported figure still counts.
func (r *reported) known(now int64) bool {
	latest := figure{at: r.last}
	return latest.age(now) < ReportMaxAge
}

// condition returns the input of the score that is shown.
func (s *service) condition(now int64) Condition {
	var c Condition
	v := s.look()
	if n, _ := v.size(now); n > 0 {
		c.Errors, c.Trend = v.errors, v.trend
	}
	c.ErrorRate = s.reported.errorRate.value * s.reported.errorWeight(v.lastSuccess, now)
	s.reported.resources(&c, now)
	return c
}

// resources sets the figures of the resources; known is false if no reported figure still counts.
func (r *reported) resources(c *Condition, now int64) (known bool) {
	if !r.known(now) {
		return false
	}
	f := r.fading(now)
	c.CPU, c.Memory = f.of(&r.cpu), f.of(&r.memory)
	c.Pool, c.Queue, c.Load = f.of(&r.pool), f.of(&r.queue), f.of(&r.load)
	return true
}

// errorWeight is the weight of the reported error rate: it fades like the other figures once an
// attempt has succeeded, and until then it stays for as long as a failed attempt would.
func (r *reported) errorWeight(lastSuccess, now int64) float64 {
	age := r.errorRate.age(now)
	switch {
	case r.errorRate.at == 0:
		return 0
	case lastSuccess > r.errorRate.at:
		return ReportWeight(age)
	case age <= MaxAge:
		return 1
	}
	return 0
}

// figures sets the figures for a decision, with s.mu held.
func (s *service) figures(f *Figures, window int, now int64) {
	v := s.look()
	var c Condition
	n, age := v.size(now)
	if n > 0 {
		fresh := freshness(age)
		c.Errors, c.Trend = v.errors*fresh, v.trend*fresh
		f.Trend, f.Age = v.trend, age
		f.Window = min(n, max(window, 1))
		f.Variation = v.variation
		f.SuccessRate = 1 - float64(v.failures(f.Window))/float64(f.Window)
	}
	r := &s.reported
	if reportedAge := r.errorRate.age(now); reportedAge < ReportMaxAge {
		c.ErrorRate = r.errorRate.value * ReportWeight(reportedAge)
		f.Reported, f.ErrorRate, f.ErrorRateAge = true, c.ErrorRate, reportedAge
	}
	f.Known = r.resources(&c, now) || n > 0
	f.CPU, f.Memory, f.Pool, f.Queue, f.Load = c.CPU, c.Memory, c.Pool, c.Queue, c.Load
	f.Vitality = c.vitality()
	f.Score = c.burdened(f.Vitality)
}

// idle reports whether the service was not heard of since the given time, or nothing is known of
// it any more.
func (s *service) idle(since time.Time, now int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active > 0 {
		return false
	}
	samples, age := s.look().size(now)
	heard := s.reported.last
	if samples > 0 {
		heard = max(heard, now-int64(age))
	}
	return samples == 0 && !s.reported.known(now) && !s.absentAt(now) || time.Unix(0, heard).Before(since)
}
