package client

import (
	"cmp"
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// streamAttempt is one attempt of a stream worker.
type streamAttempt struct {
	client  *Client
	request *Request
	// subject and token are for the reports; empty if the message does not come from this
	// Rebound. timeout is how long Rebound waits for a report.
	subject, token string
	timeout        time.Duration
}

func (w *StreamWorker) attempt(m jetstream.Msg) *streamAttempt {
	h := m.Headers()
	wire.ShowStatus(h)
	a := &streamAttempt{client: w.client, request: newRequest(m.Subject(), h, m.Data())}
	if !a.request.Redelivered() {
		return a
	}
	a.subject, a.token = wire.HeaderValue(h, events.HeaderReport), wire.HeaderValue(h, events.HeaderToken)
	if ms, err := strconv.ParseInt(wire.HeaderValue(h, events.HeaderTimeout), 10, 64); err == nil && ms > 0 {
		a.timeout = time.Duration(ms) * time.Millisecond
	}
	if _, _, err := w.client.subjects.SplitReport(a.subject); err != nil {
		a.subject = "" // another Rebound's, or not a report subject
	}
	return a
}

// reports reports whether Rebound waits for a report.
func (a *streamAttempt) reports() bool { return a.subject != "" && a.token != "" }

// stale reports whether the attempt has already ended. It asks only if the message has waited for
// a while or was delivered before.
func (a *streamAttempt) stale(m jetstream.Msg) bool {
	if !a.reports() {
		return false
	}
	meta, err := m.Metadata()
	if err != nil || meta.NumDelivered == 1 && time.Since(meta.Timestamp) < a.timeout/2 {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), publishTimeout)
	defer cancel()
	return errors.Is(a.working(ctx), ErrAttemptOver)
}

// minHeartbeat is the shortest interval between heartbeats.
const minHeartbeat = 20 * time.Millisecond

// heartbeat sends heartbeats to the stream and to Rebound until ctx ends. It cancels ctx when it
// learns that the attempt is over.
func (a *streamAttempt) heartbeat(ctx context.Context, m jetstream.Msg, ackWait time.Duration, cancel context.CancelCauseFunc) {
	every := cmp.Or(ackWait, 30*time.Second) / 3
	if a.reports() && a.timeout > 0 {
		every = min(every, a.timeout/3)
	}
	ticker := time.NewTicker(max(every, minHeartbeat))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := m.InProgress(); err != nil {
			a.client.log.Debug("the lease of an attempt could not be renewed", "operation", a.request.ID, "error", err)
		}
		if !a.reports() {
			continue
		}
		switch err := a.working(ctx); {
		case errors.Is(err, ErrAttemptOver):
			cancel(ErrAttemptOver)
			return
		case err != nil && ctx.Err() == nil:
			a.client.log.Debug("a heartbeat could not be sent to Rebound", "operation", a.request.ID, "error", err)
		}
	}
}

// working tells Rebound that the attempt goes on. The error is [ErrAttemptOver] if Rebound no
// longer waits for it. While no instance answers, the report is stored in the stream instead.
func (a *streamAttempt) working(ctx context.Context) error {
	m, err := a.message(events.Report{Result: events.Working})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	stored := m.Subject
	_, key, _ := strings.Cut(m.Subject, ".report.")
	m.Subject = a.client.subjects.Endpoint("report." + key)
	answer, err := a.client.nc.RequestMsgWithContext(ctx, m)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		m.Subject = stored
		_, err = a.client.js.PublishMsg(ctx, m)
		return err
	case err != nil:
		return err
	}
	switch code, text := wire.MicroError(answer.Header); code {
	case "":
		return nil
	case "403", "404", "409":
		return ErrAttemptOver
	default:
		return &Error{Code: code, Message: text}
	}
}

// reportTimeout bounds how long storing a report is retried.
const reportTimeout = 30 * time.Second

// report stores how the attempt ended. JetStream recognises a duplicate by its message id,
// Rebound by its token.
func (a *streamAttempt) report(f policy.Failure, failed bool) error {
	r := events.Report{Result: events.Succeeded}
	if failed {
		r = events.Report{Result: events.Failed, Code: cmp.Or(f.Code, codeInternal), Error: cmp.Or(f.Message, "failed")}
		if f.RetryAfter > 0 {
			r.RetryAfterMs = events.InMilliseconds(min(f.RetryAfter, events.MaxRetryAfter))
		}
	}
	m, err := a.message(r)
	if err != nil {
		return err
	}
	// The worker's context may have ended; the result must be reported nevertheless.
	ctx, cancel := context.WithTimeout(context.Background(), reportTimeout)
	defer cancel()
	pace := backoff.Backoff{First: retryPause, Longest: retryPause}
	for {
		call, end := context.WithTimeout(ctx, publishTimeout)
		_, err := a.client.js.PublishMsg(call, m)
		end()
		if err == nil || errors.Is(err, nats.ErrConnectionClosed) {
			return err
		}
		if !pace.Wait(ctx) {
			return orNoStream(err)
		}
	}
}

func (a *streamAttempt) message(r events.Report) (*nats.Msg, error) {
	r.ID, r.Attempt, r.Token = a.request.ID, a.request.Attempt, a.token
	return wire.EncodeReport(a.subject, r, wire.Envelope{Source: a.client.source, ID: nuid.Next(), Time: time.Now()})
}
