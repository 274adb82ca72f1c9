package handlers

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

const (
	// codeNoStream is the code of an attempt whose target no stream captures.
	codeNoStream = "no_stream"
	// minPublishing and maxPublishing bound how long it is tried to publish an
	// operation whose stream does not answer. The longest is shorter than the
	// window in which a stream recognises a repeat by default.
	minPublishing = 5 * time.Second
	maxPublishing = 30 * time.Second
)

// publisher publishes operations to the streams from which workers take them.
type publisher struct {
	js       jetstream.JetStream
	subjects events.Subjects
	// work is the stream that is made when no other captures the default targets.
	work jetstream.StreamConfig
	log  *slog.Logger
}

var _ scheduler.Publisher = (*publisher)(nil)

// Subject implements [scheduler.Publisher].
func (p *publisher) Subject(service, operation string) string {
	return p.subjects.Work(service, operation)
}

// Token implements [scheduler.Publisher].
func (p *publisher) Token() string { return rand.Text() }

// Publish implements [scheduler.Publisher]. The message id makes a repeat
// recognisable, so that what a stream does not confirm is published again.
func (p *publisher) Publish(ctx context.Context, op *events.Operation, m scheduler.Message, timeout time.Duration) *policy.Failure {
	msg := &nats.Msg{Subject: op.Work.Target, Header: wire.WorkHeader(op, m.Header, p.subjects, timeout), Data: m.Data}
	ctx, cancel := context.WithTimeout(ctx, min(max(timeout, minPublishing), maxPublishing))
	defer cancel()
	made, backoff := false, shortestBackoff
	for {
		callCtx, cancel := context.WithTimeout(ctx, streams.CallTimeout)
		_, err := p.js.PublishMsg(callCtx, msg)
		cancel()
		if err == nil {
			return nil
		}
		if errors.Is(err, jetstream.ErrNoStreamResponse) && !made && p.subjects.IsWork(msg.Subject) {
			made = true
			if err = p.make(ctx); err == nil {
				continue
			}
		}
		if refused := refusal(msg.Subject, err); refused != nil {
			return refused
		}
		select {
		case <-time.After(backoff):
			backoff = min(2*backoff, longestBackoff)
		case <-ctx.Done():
			p.log.Warn("it is not known whether an operation reached its target; its watchdog stands", "operation", op.ID, "target", msg.Subject, "error", err)
			return nil
		}
	}
}

// make makes the stream of the default targets.
func (p *publisher) make(ctx context.Context) error {
	err := streams.Ensure(ctx, p.js, []jetstream.StreamConfig{p.work})
	if err == nil {
		p.log.Info("made the stream of what workers are to do, because no other captures it", "stream", p.work.Name)
	}
	return err
}

// refusal returns the failure of an attempt that a stream will not take, nil when
// that is not known.
func refusal(subject string, err error) *policy.Failure {
	var api *jetstream.APIError
	var incompatible *streams.IncompatibleError
	switch {
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		return &policy.Failure{Code: codeNoStream, Message: "no stream captures " + subject}
	case errors.Is(err, jetstream.ErrInvalidJSAck):
		return &policy.Failure{Code: codeNoStream, Message: "what answers on " + subject + " is no stream"}
	case errors.As(err, &incompatible):
		return &policy.Failure{Code: codeNoStream, Message: incompatible.Error()}
	case errors.As(err, &api):
		return &policy.Failure{Code: strconv.Itoa(api.Code), Message: "the stream of " + subject + " answers: " + api.Description}
	case errors.Is(err, nats.ErrMaxPayload):
		return &policy.Failure{Code: nats.ErrMaxPayload.Error(), Message: "the operation with its headers is larger than the server takes"}
	}
	return nil
}
