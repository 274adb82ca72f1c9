package handlers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"golang.org/x/time/rate"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/schemas"
)

const (
	// Health reports that wait in memory are bounded; what is more is dropped, for
	// a newer report follows.
	maxWaitingReports     = 4096
	maxWaitingReportBytes = 8 << 20
)

// reports feeds the registry with what services report of themselves. Every
// instance hears every report.
type reports struct {
	subjects events.Subjects
	registry *health.Registry
	now      func() time.Time
	log      *slog.Logger
	sub      *nats.Subscription
	warn     rate.Sometimes
	// refused counts the reports that were not taken.
	refused atomic.Uint64
}

// hear subscribes to the reports of all services.
func hear(nc *nats.Conn, subjects events.Subjects, registry *health.Registry, now func() time.Time, log *slog.Logger) (*reports, error) {
	sub, err := nc.SubscribeSync(subjects.HealthReports())
	if err == nil {
		err = sub.SetPendingLimits(maxWaitingReports, maxWaitingReportBytes)
	}
	if err != nil {
		return nil, fmt.Errorf("subscribing to health reports: %w", err)
	}
	return &reports{
		subjects: subjects, registry: registry, now: now, log: log, sub: sub, warn: rate.Sometimes{First: 1, Interval: warnEvery},
	}, nil
}

// run takes reports until ctx ends or the connection is closed.
func (r *reports) run(ctx context.Context) {
	defer func() {
		if err := r.sub.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) && !errors.Is(err, nats.ErrBadSubscription) {
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
			r.log.Warn("no more health reports are heard", "error", err)
			return
		}
	}
}

// take feeds one report to the registry. One that is refused is counted; the log
// tells of the first and of one a minute, so that a flood of them fills no disk.
func (r *reports) take(m *nats.Msg, now time.Time) {
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

// health answers how the services are, as this instance sees it.
func (s *Service) health(_ context.Context, r micro.Request) (any, error) {
	var request schemas.HealthQuery
	if err := read(r, &request); err != nil {
		return nil, err
	}
	if request.Service != "" {
		if err := events.CheckName(request.Service); err != nil {
			return nil, badRequestError{fmt.Errorf("service %w", err)}
		}
	}
	now := s.clock.Now()
	answer := schemas.Health{Instance: s.id, RefusedReports: s.reports.refused.Load(), Services: []health.Metrics{}}
	if err := s.Ready(); err != nil {
		answer.NotReady = err.Error()
	}
	answer.Warnings = s.warnings()
	if host, ok := s.registry.Host(); ok {
		answer.Host = &host
	}
	if request.Service == "" {
		answer.Services = s.registry.All(now)
	} else if m, ok := s.registry.Metrics(request.Service, now); ok {
		answer.Services = append(answer.Services, m)
	}
	return answer, nil
}
