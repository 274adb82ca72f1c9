package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/time/rate"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/health"
)

const (
	// Health reports that wait in memory are bounded; more are dropped, because newer ones
	// follow.
	maxWaitingHealth      = 4096
	maxWaitingHealthBytes = 8 << 20
)

// HealthReports feeds a registry with the health reports of services. Every instance
// receives every report.
type HealthReports struct {
	subjects events.Subjects
	registry *health.Registry
	now      func() time.Time
	log      *slog.Logger
	sub      *nats.Subscription
	warn     rate.Sometimes
	refused  atomic.Uint64
}

// HearHealth subscribes to the health reports of all services. They are read while
// [HealthReports.Run] runs.
func HearHealth(nc *nats.Conn, subjects events.Subjects, registry *health.Registry, now func() time.Time, log *slog.Logger) (*HealthReports, error) {
	sub, err := nc.SubscribeSync(subjects.HealthReports())
	if err == nil {
		err = sub.SetPendingLimits(maxWaitingHealth, maxWaitingHealthBytes)
	}
	if err != nil {
		return nil, fmt.Errorf("subscribing to health reports: %w", err)
	}
	return &HealthReports{
		subjects: subjects, registry: registry, now: now, log: log, sub: sub, warn: rate.Sometimes{First: 1, Interval: warnEvery},
	}, nil
}

// Refused returns how many reports were refused.
func (r *HealthReports) Refused() uint64 { return r.refused.Load() }

// Close ends the subscription of reports that are not read.
func (r *HealthReports) Close() error { return r.sub.Unsubscribe() }

// Run takes reports in until ctx ends or the connection is closed.
func (r *HealthReports) Run(ctx context.Context) {
	defer func() {
		if err := r.Close(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) && !errors.Is(err, nats.ErrBadSubscription) {
			r.log.Debug("the subscription to health reports could not be ended", "error", err)
		}
	}()
	for {
		m, err := r.sub.NextMsgWithContext(ctx)
		switch {
		case err == nil:
			r.take(m, r.now())
		case errors.Is(err, nats.ErrSlowConsumer):
			r.log.Debug("health reports were dropped, because more came than could be read")
		case ctx.Err() != nil:
			return
		default:
			r.log.Warn("health reports are no longer received", "error", err)
			return
		}
	}
}

// take feeds one report to the registry. It counts a refused one, and logs at most one a
// minute, so that a flood does not fill the disk.
func (r *HealthReports) take(m *nats.Msg, now time.Time) {
	service, report, err := wire.DecodeHealth(r.subjects, m)
	if err == nil {
		err = r.registry.Report(service, report, now)
	}
	if err == nil {
		return
	}
	refused := r.refused.Add(1)
	r.log.Debug("a health report was refused", "subject", m.Subject, "error", err)
	r.warn.Do(func() {
		r.log.Warn("health reports are refused", "refused", refused, "subject", m.Subject, "error", err)
	})
}
