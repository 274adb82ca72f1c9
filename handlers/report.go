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

// workReports takes in the reports of workers.
type workReports struct {
	subjects events.Subjects
	pipeline *scheduler.Pipeline
	now      func() time.Time
	log      *slog.Logger
	warn     rate.Sometimes
	// taken and refused count the reports since the instance was started.
	taken, refused atomic.Uint64
}

// handle takes in one report of the intake stream. It acknowledges a refused report,
// because it would be refused for ever. The refusal of a redelivered report is not
// counted: an instance may have died between taking it in and acknowledging it.
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

// take takes in a report that was made at that time.
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

// count counts a refused report. It logs at most one warning a minute.
func (w *workReports) count(subject string, err error) {
	refused := w.refused.Add(1)
	w.log.Debug("a report was refused", "subject", subject, "error", err)
	w.warn.Do(func() {
		w.log.Warn("reports of workers are refused", "refused", refused, "subject", subject, "error", err)
	})
}

// answer takes in a report and answers whether it was accepted. (JetStream itself
// answers a report published on the report subject. It knows where it is stored but
// not what it is.)
func (w *workReports) answer(ctx context.Context, r micro.Request) (any, error) {
	m := &nats.Msg{
		Subject: w.subjects.Prefix + ".report." + strings.TrimPrefix(r.Subject(), w.subjects.Endpoint("report.")),
		Header:  nats.Header(r.Headers()), Data: r.Data(),
	}
	err := w.take(ctx, m, w.now())
	var refused *scheduler.RefusedError
	switch {
	case err == nil:
		return schemas.Reported{Accepted: true}, nil
	case !errors.As(err, &refused):
		return nil, fmt.Errorf("taking the report in: %w", err)
	}
	w.count(m.Subject, err)
	return nil, err
}

// refusalCode returns the error code for a refused report.
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
