package gate

import (
	"cmp"
	"time"
)

// Pressure is global backpressure: whether most services fail, or the instances together
// or their stores are overloaded. It is a value; [Pressure.Step] gives the next one.
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
	// PressureFailures: most services fail. Failing keys keep a trickle.
	PressureFailures PressureCause = "failure_rate"
	// PressureActive: too many retries are in flight over all instances. New ones go at
	// the pace at which others end.
	PressureActive PressureCause = "active_retries"
	// PressureStore: NATS or Redis answers slowly. Instances take less in hand.
	PressureStore PressureCause = "store_slow"
)

// Trickles reports whether failing keys are slowed to a trickle.
func (p Pressure) Trickles() bool { return p.On && p.Cause == PressureFailures }

// Measures are the measurements that decide on backpressure.
type Measures struct {
	// Voting is how many services have a vote, and Failing how many of those fail; see
	// [CountVotes].
	Voting, Failing int
	// Active is how many retries are in flight over all instances.
	Active int
	// StoreDelay is how long NATS or Redis takes to acknowledge a write, whichever
	// is slower.
	StoreDelay time.Duration
}

// Limits say when backpressure turns on and when an instance takes less. A field that is 0
// has its default, and one that is [Off] limits nothing.
type Limits struct {
	// FailureShare is the share of the services that must fail, and the share of the
	// attempts of a service that must fail for that, 0 to 1; 0.75 by default. Services
	// share a cause when most of them fail; of three it takes all, and of four three, so
	// that two unrelated failures are not taken for one. Each service has one vote, however
	// many attempts it has.
	FailureShare float64
	// Services is how many services must have a vote, 3 by default: one or two that fail are
	// the business of their breakers.
	Services int
	// Active is 10,000 by default.
	Active int
	// StoreDelay is 1 second by default.
	StoreDelay time.Duration
	// SchedulerDelay and CPUPressure bound what an instance that keeps up may wait for CPU,
	// 50 ms and half of the time by default, and Memory how much of the limit of its cgroup it
	// may use, 0.9 by default; see [Saturation].
	SchedulerDelay time.Duration
	CPUPressure    float64
	Memory         float64
}

// Off is the value of a limit that is not in force.
const Off = -1

// Backpressure ends when every measure is down to this share of its limit, but not
// before it was on for pressureLeast, so that it does not flap.
const (
	pressureEnds  = 0.7
	pressureLeast = 5 * time.Second
)

// OrDefaults returns l with every default filled in.
func (l Limits) OrDefaults() Limits {
	l.FailureShare = cmp.Or(l.FailureShare, 0.75)
	l.Services = cmp.Or(l.Services, 3)
	l.Active = cmp.Or(l.Active, 10_000)
	l.StoreDelay = cmp.Or(l.StoreDelay, time.Second)
	l.SchedulerDelay = cmp.Or(l.SchedulerDelay, 50*time.Millisecond)
	l.CPUPressure = cmp.Or(l.CPUPressure, 0.5)
	l.Memory = cmp.Or(l.Memory, 0.9)
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
	above := func(value, limit float64) bool { return limit > 0 && (value > limit*share || value >= limit) }
	switch {
	case m.Voting > 0 && m.Voting >= l.Services && above(float64(m.Failing)/float64(m.Voting), l.FailureShare):
		return PressureFailures
	case above(float64(m.Active), float64(l.Active)):
		return PressureActive
	case above(float64(m.StoreDelay), float64(l.StoreDelay)):
		return PressureStore
	}
	return ""
}
