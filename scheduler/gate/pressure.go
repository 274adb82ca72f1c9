package gate

import "time"

// Pressure is global backpressure: whether the instances together, or the stores
// they use, are overloaded. It is a value; [Pressure.Step] gives the next one.
type Pressure struct {
	On bool `json:"on"`
	// Cause is what turned it on, or keeps it on; empty while it is off.
	Cause PressureCause `json:"cause,omitempty"`
	// Since is when On last changed.
	Since time.Time `json:"since,omitzero"`
}

// PressureCause is what turns backpressure on.
type PressureCause string

// The causes; of several that apply, the first in this order is named.
const (
	// PressureActive: too many retries are in flight over all instances.
	PressureActive PressureCause = "active_retries"
	// PressureFailures: too many of all attempts fail.
	PressureFailures PressureCause = "failure_rate"
	// PressureLoad: the host is overloaded.
	PressureLoad PressureCause = "host_load"
	// PressureStore: NATS or Redis answers slowly.
	PressureStore PressureCause = "store_slow"
)

// Measures are the measurements that decide on backpressure.
type Measures struct {
	// Active is how many retries are in flight over all instances.
	Active int
	// FailureRate is the share of failures, 0 to 1, among the last Samples attempts
	// that say something of health, of all keys and instances. They must be recent,
	// of the last minute say: backpressure lets few attempts through, and otherwise
	// would never notice that the failures are over.
	FailureRate float64
	Samples     int
	// Load is the host's load average per core.
	Load float64
	// StoreDelay is how long NATS or Redis takes to acknowledge a write, whichever
	// is slower.
	StoreDelay time.Duration
}

// Limits say when backpressure turns on. A field that is 0 has its default.
type Limits struct {
	// Active is 10,000 by default.
	Active int
	// FailureRate is 0.8 by default and needs at least Samples attempts, 1,000 by
	// default. Retries often fail because of a target or two, which is the business
	// of their breakers: most of a busy system must fail before all keys are held.
	FailureRate float64
	Samples     int
	// Load is off at 0, the default: other processes on a host say nothing of the
	// targets.
	Load float64
	// StoreDelay is 1 second by default.
	StoreDelay time.Duration
}

// Backpressure ends when every measure is down to this share of its limit, but not
// before it was on for pressureLeast, so that it does not flap.
const (
	pressureEnds  = 0.7
	pressureLeast = 5 * time.Second
)

// OrDefaults returns l with every default filled in.
func (l Limits) OrDefaults() Limits {
	if l.Active == 0 {
		l.Active = 10_000
	}
	if l.FailureRate == 0 {
		l.FailureRate = 0.8
	}
	if l.Samples == 0 {
		l.Samples = 1000
	}
	if l.StoreDelay == 0 {
		l.StoreDelay = time.Second
	}
	return l
}

// Step returns the backpressure after the measurements at now. changed is whether
// it turned on or off.
func (p Pressure) Step(m Measures, l Limits, now time.Time) (after Pressure, changed bool) {
	l = l.OrDefaults()
	if cause := m.over(l, 1); cause != "" {
		if p.On {
			p.Cause = cause
			return p, false
		}
		return Pressure{On: true, Cause: cause, Since: now}, true
	}
	if !p.On {
		return p, false
	}
	if cause := m.over(l, pressureEnds); cause != "" {
		p.Cause = cause
		return p, false
	}
	if now.Sub(p.Since) < pressureLeast {
		return p, false
	}
	return Pressure{Since: now}, true
}

// EndsIn returns how long after now backpressure can end at the earliest; 0 when it
// is off or may end as soon as its cause does.
func (p Pressure) EndsIn(now time.Time) time.Duration {
	if !p.On {
		return 0
	}
	// Since may be by another instance's clock.
	return min(max(pressureLeast-now.Sub(p.Since), 0), pressureLeast)
}

// over returns the first cause above the given share of its limit, or at its limit.
func (m *Measures) over(l Limits, share float64) PressureCause {
	above := func(value, limit float64) bool { return value > limit*share || value >= limit }
	switch {
	case above(float64(m.Active), float64(l.Active)):
		return PressureActive
	case m.Samples >= l.Samples && above(m.FailureRate, l.FailureRate):
		return PressureFailures
	case l.Load > 0 && above(m.Load, l.Load):
		return PressureLoad
	case above(float64(m.StoreDelay), float64(l.StoreDelay)):
		return PressureStore
	}
	return ""
}
