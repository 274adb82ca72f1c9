package cluster

import (
	"context"
	"sync"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

// lastTry is how long a change of backpressure may take to be stored once the instance
// stops.
const lastTry = 5 * time.Second

// decide decides on global backpressure by the measures of all instances, if this one is
// the leader. It returns the event of a change.
func (m *Member) decide(v health.Coordination, now time.Time) (e events.BackpressureChange, changed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.followLocked(now) // the leader until now may be gone
	if leader, ok := m.register.Leader(); !ok || leader.ID != m.self.ID {
		return e, false
	}
	p, _ := m.pressure.Step(gate.Measures{
		Voting: v.VotingServices, Failing: v.FailingServices,
		Active: v.ActiveRetries, StoreDelay: events.Milliseconds(v.StoreDelayMs),
	}, m.config.Limits, now)
	if !m.setPressureLocked(p, m.self.ID) {
		return e, false
	}
	return events.BackpressureChange{
		Backpressure: reported(p), By: m.self.ID, Instances: v.TotalInstances, ActiveRetries: v.ActiveRetries,
		FailureRate: v.GlobalFailureRate, Samples: v.Samples, VotingServices: v.VotingServices, FailingServices: v.FailingServices,
		SystemLoad: v.SystemLoad, StoreDelayMs: v.StoreDelayMs,
	}, true
}

// followLocked adopts the backpressure of the leader. The leader adopts a later change: another
// instance decided on it while this one was not heard. The caller has the lock.
func (m *Member) followLocked(now time.Time) {
	leader, ok := m.register.Leader()
	if !ok {
		return
	}
	follow := leader.Backpressure
	if leader.ID == m.self.ID {
		if follow = m.register.LatestChange(); !follow.Since.After(m.pressure.Since) {
			return
		}
	}
	p := gate.Pressure{On: follow.On, Cause: gate.PressureCause(follow.Cause), Since: follow.Since}
	if p.Since.After(now) {
		p.Since = now // by our clock; the next leader must be able to end it
	}
	m.setPressureLocked(p, leader.ID)
}

// setPressureLocked puts backpressure in force. It returns whether it turned on or off.
// The caller has the lock.
func (m *Member) setPressureLocked(p gate.Pressure, by string) (changed bool) {
	changed = p.On != m.pressure.On
	m.pressure = p
	m.config.Gates.SetPressure(p.Trickles())
	if !changed {
		return false
	}
	if p.On {
		m.config.Log.Warn("global backpressure is on", "cause", p.Cause, "since", p.Since, "by", by)
	} else {
		m.config.Log.Info("global backpressure is off", "by", by)
	}
	return true
}

// reported returns backpressure in the form of reports and events.
func reported(p gate.Pressure) events.Backpressure {
	b := events.Backpressure{On: p.On, Since: p.Since.UTC()}
	if p.On {
		b.Cause = string(p.Cause)
	}
	return b
}

// announce stores the event of a change of backpressure, after the changes before it.
func (m *Member) announce(ctx context.Context, e events.BackpressureChange) {
	m.announcer.next(func() {
		err := m.store(ctx, e)
		if err != nil && ctx.Err() != nil {
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastTry)
			defer cancel()
			err = m.store(last, e)
		}
		if err != nil {
			m.config.Log.Error("a change of global backpressure could not be announced", "on", e.On, "error", err)
		}
	})
}

func (m *Member) store(ctx context.Context, e events.BackpressureChange) error {
	msg, err := wire.EncodeBackpressure(m.subjects, &e)
	if err != nil {
		return err
	}
	return m.config.Publish(ctx, "announcing global backpressure", msg)
}

// announcer does one thing after the other without keeping the caller waiting. The zero
// value is ready. It is for one goroutine.
type announcer struct {
	running sync.WaitGroup
	last    chan struct{} // closed when the last is done; nil before the first
}

// next does do after everything before it.
func (a *announcer) next(do func()) {
	before, done := a.last, make(chan struct{})
	a.last = done
	a.running.Go(func() {
		defer close(done)
		if before != nil {
			<-before
		}
		do()
	})
}

// wait waits until everything is done.
func (a *announcer) wait() { a.running.Wait() }
