package handlers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"golang.org/x/time/rate"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/internal/pull"
	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/schemas"
)

// workReports takes in what workers report.
type workReports struct {
	subjects events.Subjects
	pipeline *scheduler.Pipeline
	log      *slog.Logger
	warn     rate.Sometimes
	// taken and refused count the reports since the instance was started.
	taken, refused atomic.Uint64
}

// handle takes in one report of the intake stream. One that is refused is done
// with: it would be refused for ever. When it came before, an instance may have
// died between taking it in and acknowledging it, so that its refusal says nothing.
func (w *workReports) handle(ctx context.Context, t *pull.Message) error {
	m := &nats.Msg{Subject: t.Subject(), Header: t.Headers(), Data: t.Data()}
	err := w.take(ctx, m, t.Stored())
	if !errors.As(err, new(*scheduler.RefusedError)) {
		return err
	}
	if t.Deliveries() == 1 {
		w.count(t.Subject(), err)
	}
	return nil
}

// take takes in one report that was made at that time.
func (w *workReports) take(ctx context.Context, m *nats.Msg, at time.Time) error {
	service, operation, r, err := wire.DecodeReport(w.subjects, m, at)
	if err != nil {
		return &scheduler.RefusedError{Refusal: scheduler.RefusedInvalid, Problem: err}
	}
	err = w.pipeline.Report(ctx, service, operation, r, at)
	if err == nil {
		w.taken.Add(1)
	}
	return err
}

// count counts a report that is refused. The log tells of the first and of one a
// minute.
func (w *workReports) count(subject string, err error) {
	refused := w.refused.Add(1)
	w.log.Debug("a report was refused", "subject", subject, "error", err)
	w.warn.Do(func() {
		w.log.Warn("reports of workers are refused", "refused", refused, "subject", subject, "error", err)
	})
}

// report takes in a report and answers whether it was accepted. One that is
// published on the report subject itself is answered by JetStream, which knows
// where it is stored but not what it is.
func (s *Service) report(ctx context.Context, r micro.Request) (any, error) {
	m := &nats.Msg{
		Subject: s.config.Prefix + ".report." + strings.TrimPrefix(r.Subject(), ServiceName+".report."),
		Header:  nats.Header(r.Headers()), Data: r.Data(),
	}
	err := s.workReports.take(ctx, m, s.clock.Now())
	var refused *scheduler.RefusedError
	switch {
	case err == nil:
		return schemas.Reported{Accepted: true}, nil
	case !errors.As(err, &refused):
		return nil, fmt.Errorf("taking the report in: %w", err)
	}
	s.workReports.count(m.Subject, err)
	return nil, err
}

// refusalCode returns the error code that a refused report is answered with.
func refusalCode(r scheduler.Refusal) string {
	switch r {
	case scheduler.RefusedUnknown:
		return codeNotFound
	case scheduler.RefusedOld:
		return codeConflict
	case scheduler.RefusedForged:
		return codeForbidden
	case scheduler.RefusedInvalid:
	}
	return codeBadRequest
}
