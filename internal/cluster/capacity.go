package cluster

import (
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

// capacity is how far this instance keeps up with its work and how much it takes.
type capacity struct {
	saturation gate.Saturation
	overload   gate.Overload
	throttle   gate.Throttle
	limit      int    // of what it may have in hand
	limitedBy  string // empty when nothing lowers the limit
	warn       rate.Sometimes
}

func (c *capacity) reported() events.Capacity {
	return events.Capacity{Overload: c.overload.Level(), InHandLimit: c.limit, LimitedBy: c.limitedBy}
}

// measure brings the overload of this instance up to date.
func (m *Member) measure(now time.Time) {
	s := m.config.Saturation(now)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity.saturation = s
	m.capacity.overload = m.capacity.overload.Step(s, m.config.Limits, now)
	m.config.Measured(health.Shortage{Processor: m.capacity.overload.Level(), Memory: 100 * s.Memory})
}

// throttle reconsiders whether this instance must take less because of its memory, the stores
// or the attempts of all instances.
func (m *Member) throttle(v health.Coordination, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	u := gate.Usage{
		Memory: m.capacity.saturation.Memory, StoreDelay: events.Milliseconds(v.StoreDelayMs), Active: v.ActiveRetries, Most: m.config.Limit.Most(),
	}
	for _, p := range m.config.Pullers {
		u.InHand += p.Unacked()
		u.Ended += p.Handled()
	}
	m.capacity.throttle = m.capacity.throttle.Step(u, m.config.Limits, now)
}

// takeShare makes this instance take its share of the work: less than others when it is
// overloaded more than they are or its store is slower, and what its throttle leaves. While
// others take over, no key is held for having more than its part of the little that is left.
func (m *Member) takeShare(v health.Coordination) {
	m.config.Gates.SetInstances(v.TotalInstances)
	limit, by := v.InHandLimit(m.self.ID, m.config.Limit.Most())
	m.mu.Lock()
	defer m.mu.Unlock()
	shared := m.config.Limit.Most()
	if n, cause, limited := m.capacity.throttle.Limit(); limited {
		if shared = n; n < limit {
			limit, by = n, string(cause)
		}
	}
	m.config.Limit.Set(limit, shared)
	m.noteLimitLocked(limit, by)
}

// PressureProblem says why global backpressure is on or this instance's memory makes it take
// less, and what follows from it. It is empty while neither is so.
func (m *Member) PressureProblem() string {
	v := m.View(m.config.Now())
	m.mu.Lock()
	defer m.mu.Unlock()
	since := v.Backpressure.Since.Format(time.RFC3339)
	switch limit, cause, limited := m.capacity.throttle.Limit(); {
	case limited && cause == gate.ThrottleMemory:
		return fmt.Sprintf("the instance's cgroup uses %.0f%% of its memory limit, so the instance has at most %d due operations in hand", 100*m.capacity.saturation.Memory, limit)
	case !m.pressure.On:
		return ""
	case m.pressure.Trickles():
		return fmt.Sprintf("most services fail (%d of %d) since %s; each key that fails too has one attempt a second until that ends", v.FailingServices, v.VotingServices, since)
	case m.pressure.Cause == gate.PressureActive:
		return fmt.Sprintf("too many attempts are in flight (%d) since %s; new ones go as others end", v.ActiveRetries, since)
	}
	return fmt.Sprintf("NATS or Redis answers slowly (in %.0f ms) since %s; instances take less until that ends", v.StoreDelayMs, since)
}

// noteLimitLocked remembers the in-hand limit and warns when something lowers it. The caller
// has the lock.
func (m *Member) noteLimitLocked(limit int, by string) {
	c := &m.capacity
	begins := by != "" && c.limitedBy == ""
	c.limit, c.limitedBy = limit, by
	if !begins {
		return
	}
	c.warn.Do(func() {
		m.config.Log.Warn("this instance takes fewer due operations", "because", by, "limit", limit, "overload", c.overload.Level(),
			"scheduler_delay", c.saturation.SchedulerDelay, "cpu_pressure", c.saturation.CPUPressure, "memory", c.saturation.Memory)
	})
}
