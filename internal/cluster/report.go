package cluster

import (
	"errors"
	"log/slog"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/health"
)

// hear takes in the report of an instance. It returns whether to answer it.
func (m *Member) hear(msg *nats.Msg, now time.Time) (answer bool) {
	r, err := wire.DecodeInstance(m.subjects, msg)
	changed := false
	if err == nil {
		changed, err = m.enter(r, now)
	}
	switch {
	case errors.Is(err, health.ErrOwnReport):
	case err != nil:
		refused := m.refused.Add(1)
		m.config.Log.Debug("a report of an instance was refused", "subject", msg.Subject, "error", err)
		m.warn.Do(func() {
			m.config.Log.Warn("reports of other instances are refused", "refused", refused, "error", err)
		})
	case changed:
		m.takeShare(m.View(now))
	}
	if err == nil {
		m.config.HearEvidence(r.ID, r.Evidence, now)
	}
	return err == nil && r.State == events.InstanceJoining
}

// enter adds a report to the register and applies it. It returns whether the number of
// instances has changed.
func (m *Member) enter(r events.InstanceReport, now time.Time) (changed bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r.State == events.InstanceLeaving {
		changed = m.register.Left(r.ID)
	} else if changed, err = m.register.Heard(r, now); err != nil {
		return false, err
	}
	m.followLocked(now)
	for _, d := range r.Delivered {
		for _, p := range m.config.Pullers {
			if p.Name() == d.Consumer {
				p.DeliveredElsewhere(d.Made, d.Sequence)
			}
		}
	}
	return changed, nil
}

// publish reports this instance to the others, with what it measured lately or, if all evidence,
// at all.
func (m *Member) publish(allEvidence bool, now time.Time) {
	m.mu.Lock()
	r := m.reportLocked(now)
	m.mu.Unlock()
	r.Evidence = m.config.Evidence(allEvidence, now)
	m.published = now
	msg, err := wire.EncodeInstance(m.subjects, &r)
	if err == nil {
		err = m.nc.PublishMsg(msg)
	}
	if err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		m.warn.Do(func() { m.config.Log.Warn("this instance could not be reported to the others", "error", err) })
	}
}

// reportLocked returns the report of this instance. The caller has the lock, unless the
// member is just being made.
func (m *Member) reportLocked(now time.Time) events.InstanceReport {
	r := m.self
	r.State = m.state
	r.InFlight = m.config.Gates.Active()
	for _, p := range m.config.Pullers {
		r.InHand += p.Unacked()
		if made, sequence := p.Delivered(); sequence > 0 {
			r.Delivered = append(r.Delivered, events.Delivered{Consumer: p.Name(), Made: made, Sequence: sequence})
		}
	}
	r.Succeeded, r.Failed = m.config.Gates.Counts(now)
	r.Services = m.config.Gates.Services(now)
	h := m.config.Host()
	r.CPUUtilization, r.MemoryUtilization = figure(h.CPUUtilization, 100), figure(h.MemoryUtilization, 100)
	r.SystemLoad = figure(h.SystemLoad, events.MaxInstanceFigure)
	r.StoreDelayMs = events.InMilliseconds(m.config.StoreDelay(now))
	r.Backpressure = reported(m.pressure)
	r.Capacity = m.capacity.reported()
	r.Policies = m.config.Policies()
	return r
}

// figure clamps v to 0 and most; NaN becomes 0.
func figure(v, most float64) float64 {
	if !(v > 0) {
		return 0
	}
	return min(v, most)
}

// hostName returns the name of the host, empty if it has none.
func hostName(log *slog.Logger) string {
	name, err := os.Hostname()
	if err != nil {
		log.Debug("the host has no name", "error", err)
	}
	const most = 255
	name = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, name)
	return strings.ToValidUTF8(name[:min(len(name), most)], "")
}
