package handlers

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// The codes of failures that no target reports itself.
const (
	codeNoResponders = "no_responders"
	codeTimeout      = "timeout"
	codeSlowReply    = "slow_reply"
)

// slowReply bounds how long after the attempt's timeout a reply is still waited
// for, to tell a target that is slow from one that is silent.
const slowReply = time.Second

// errInterrupted says that the connection was lost during an attempt.
var errInterrupted = errors.New("the connection to NATS was lost during the attempt")

// requester makes attempts as NATS requests.
type requester struct{ nc *nats.Conn }

var _ scheduler.Target = (*requester)(nil)

// Deliver implements [scheduler.Target]. The reply is judged by the conventions
// of NATS micro: an error header is a failure with that code, anything else a
// success.
func (r *requester) Deliver(ctx context.Context, op *events.Operation, m scheduler.Message, a scheduler.Attempt) (scheduler.Reply, error) {
	if err := r.connected(ctx); err != nil {
		return scheduler.Reply{}, err
	}
	reconnects := r.nc.Stats().Reconnects
	request := &nats.Msg{Subject: a.Subject, Header: wire.TargetHeader(op, m.Header, a.Number, a.Repeated), Data: m.Data}

	callCtx, cancel := context.WithTimeout(ctx, a.Timeout+min(slowReply, a.Timeout/10))
	defer cancel()
	start := time.Now()
	answer, err := r.nc.RequestMsgWithContext(callCtx, request)
	reply := scheduler.Reply{Duration: time.Since(start)}

	switch {
	case err == nil:
		reply.Failure, reply.Failed = failure(answer.Header, time.Now())
		if reply.Duration > a.Timeout && !reply.Failed {
			reply.Failed = true
			reply.Failure = policy.Failure{Code: codeSlowReply, Message: "the target replied later than " + a.Timeout.String()}
		}
	case errors.Is(err, nats.ErrNoResponders):
		reply.Failed = true
		reply.Failure = policy.Failure{Code: codeNoResponders, Message: "nobody listens on " + a.Subject}
	case ctx.Err() != nil:
		return scheduler.Reply{}, ctx.Err()
	case r.nc.Status() != nats.CONNECTED || r.nc.Stats().Reconnects != reconnects:
		return scheduler.Reply{}, errInterrupted
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		reply.Failed = true
		reply.Failure = policy.Failure{Code: codeTimeout, Message: "no reply within " + a.Timeout.String()}
	default:
		return scheduler.Reply{}, err
	}
	reply.Failure.Duration = reply.Duration
	return reply, nil
}

// connected waits until the connection is up. An attempt that cannot even be
// sent is none.
func (r *requester) connected(ctx context.Context) error {
	if r.nc.IsConnected() {
		return nil
	}
	changed := r.nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer r.nc.RemoveStatusListener(changed)
	for !r.nc.IsConnected() {
		if r.nc.IsClosed() {
			return nats.ErrConnectionClosed
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// failure reads a reply's headers; failed is false when they tell of none.
func failure(h nats.Header, now time.Time) (f policy.Failure, failed bool) {
	f.Code, f.Message = wire.MicroError(h)
	if f.Code == "" && f.Message == "" {
		return f, false
	}
	// A date that cannot be read is no reason to lose the failure itself.
	if at, err := events.ParseRetryAfter(wire.HeaderValue(h, events.HeaderRetryAfter), now); err == nil && at.After(now) {
		f.RetryAfter = at.Sub(now)
	}
	return f, true
}
