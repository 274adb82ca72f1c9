package handlers

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/time/rate"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/internal/inbox"
	"github.com/rebound-mq/rebound/internal/natsconn"
	"github.com/rebound-mq/rebound/internal/opstore"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// The codes of failures that targets do not report themselves.
const (
	codeNoResponders = "no_responders"
	codeTimeout      = "timeout"
	codeSlowReply    = "slow_reply"
	// codeForbiddenTarget: the service's NATS user may not publish to the target. That says
	// nothing of the target, and only an operator can change it, so the operation is not
	// attempted again: its dead letter can be replayed once the permission is granted.
	codeForbiddenTarget = "forbidden_target"
)

// slowReply is how long after the attempt's timeout a reply is still awaited, to tell
// a slow target from a silent one.
const slowReply = time.Second

// errInterrupted says that the connection was lost during an attempt.
var errInterrupted = errors.New("the connection to NATS was lost during the attempt")

// requester makes attempts as NATS requests.
type requester struct {
	nc    *nats.Conn
	link  *natsconn.Link
	inbox *inbox.Inbox
	log   *slog.Logger
	warn  rate.Sometimes // of what is wrong with replies
	deny  *denials
}

// denials logs targets that this service's NATS user may not publish to.
type denials struct {
	log  *slog.Logger
	warn rate.Sometimes
}

func newDenials(log *slog.Logger) *denials {
	return &denials{log: log, warn: rate.Sometimes{First: 1, Interval: warnEvery}}
}

// failure returns the failure of an attempt that the server denies, and logs it now and then.
func (d *denials) failure(subject string) policy.Failure {
	d.warn.Do(func() {
		d.log.Warn("this NATS user may not publish to the target of operations; `rebound doctor` lists what it needs besides", "target", subject)
	})
	return policy.Failure{Code: codeForbiddenTarget, Message: "this service's NATS user may not publish to " + subject}
}

var _ scheduler.Target = (*requester)(nil)

func newRequester(nc *nats.Conn, link *natsconn.Link, inbox *inbox.Inbox, deny *denials, log *slog.Logger) *requester {
	return &requester{nc: nc, link: link, inbox: inbox, log: log, warn: rate.Sometimes{First: 1, Interval: warnEvery}, deny: deny}
}

// Deliver implements [scheduler.Target]. It reads the reply by the conventions of NATS
// micro: an error header is a failure with that code, anything else a success.
func (r *requester) Deliver(ctx context.Context, op *events.Operation, m scheduler.Message, a scheduler.Attempt) (scheduler.Reply, error) {
	mark, err := r.connected(ctx)
	if err != nil {
		return scheduler.Reply{}, err
	}
	request := &nats.Msg{Subject: a.Subject, Header: wire.TargetHeader(op, m.Header, a.Number, a.Repeated), Data: m.Data}

	start, longest := time.Now(), a.Timeout+min(slowReply, a.Timeout/10)
	answer, err := r.inbox.Request(ctx, request, longest)
	reply := scheduler.Reply{Duration: time.Since(start)}

	switch {
	case err == nil:
		reply.Failure, reply.Failed = failure(answer.Header, time.Now(), r.ignored(a.Subject))
		// A reply is awaited longer than that only if this instance stood still meanwhile, and
		// then it may have come in time.
		late := reply.Duration > a.Timeout && reply.Duration < longest+inbox.StoodStill
		if late && !reply.Failed {
			reply.Failed = true
			reply.Failure = policy.Failure{Code: codeSlowReply, Message: "the target replied later than " + a.Timeout.String()}
		}
	case errors.Is(err, nats.ErrNoResponders):
		reply.Failed, reply.Absent = true, true
		reply.Failure = policy.Failure{Code: codeNoResponders, Message: "nobody listens on " + a.Subject}
	case errors.Is(err, nats.ErrPermissionViolation):
		reply.Failed, reply.Failure = true, r.deny.failure(a.Subject)
	case ctx.Err() != nil:
		return scheduler.Reply{}, ctx.Err()
	case !r.link.UpSince(mark):
		return scheduler.Reply{}, errInterrupted
	case errors.Is(err, context.DeadlineExceeded):
		reply.Failed = true
		reply.Failure = policy.Failure{Code: codeTimeout, Message: "no reply within " + a.Timeout.String()}
	default:
		return scheduler.Reply{}, err
	}
	reply.Failure.Duration = reply.Duration
	return reply, nil
}

// ignored returns what logs, now and then, why the Retry-After of a reply counts for nothing.
func (r *requester) ignored(subject string) func(error) {
	return func(err error) {
		r.warn.Do(func() {
			r.log.Warn("the Retry-After of a reply is ignored; the policy's delay stands", "target", subject, "error", err)
		})
	}
}

// connected waits until the connection is up: an attempt that cannot be sent must not
// count. It returns the mark to ask later whether it was up all the time.
func (r *requester) connected(ctx context.Context) (mark uint64, err error) {
	mark, up := r.link.Up()
	if up {
		return mark, nil
	}
	changed := r.nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer r.nc.RemoveStatusListener(changed)
	for !r.nc.IsConnected() {
		if r.nc.IsClosed() {
			return 0, nats.ErrConnectionClosed
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	mark, _ = r.link.Look()
	return mark, nil
}

// failure reads the failure in a reply's headers; failed is false if there is none.
// ignored is called with why a Retry-After counts for nothing.
func failure(h nats.Header, now time.Time, ignored func(error)) (f policy.Failure, failed bool) {
	f.Code, f.Message = wire.MicroError(h)
	if f.Code == "" && f.Message == "" {
		return f, false
	}
	// An unreadable date must not hide the failure itself.
	switch at, err := events.ParseRetryAfter(wire.HeaderValue(h, events.HeaderRetryAfter), now); {
	case err != nil:
		ignored(err)
	case at.After(now):
		f.RetryAfter = at.Sub(now)
	}
	return f, true
}

const (
	// minPublishing and maxPublishing bound how long publishing is retried while the
	// stream does not answer. The longest is shorter than the default window in which
	// a stream recognises a repeat.
	minPublishing = 5 * time.Second
	maxPublishing = 30 * time.Second
	// mostCaptured is how many subjects that a stream captures are remembered.
	mostCaptured = 4096
)

// publisher publishes operations to the streams of workers.
type publisher struct {
	js        jetstream.JetStream
	publisher opstore.Publisher
	subjects  events.Subjects
	// work is the stream to make if no other captures the default targets.
	work jetstream.StreamConfig
	deny *denials
	log  *slog.Logger
	// captured holds the subjects that a stream was seen to capture.
	captured *lru.Cache[string, struct{}]
}

func newPublisher(js jetstream.JetStream, messages opstore.Publisher, subjects events.Subjects, work jetstream.StreamConfig, deny *denials, log *slog.Logger) (*publisher, error) {
	captured, err := lru.New[string, struct{}](mostCaptured)
	if err != nil {
		return nil, fmt.Errorf("remembering the targets that streams capture: %w", err)
	}
	return &publisher{
		js: js, publisher: messages, subjects: subjects, work: work, deny: deny, log: log, captured: captured,
	}, nil
}

var _ scheduler.Publisher = (*publisher)(nil)

// Subject implements [scheduler.Publisher].
func (p *publisher) Subject(service, operation string) string {
	return p.subjects.Work(service, operation)
}

// Token implements [scheduler.Publisher].
func (p *publisher) Token() string { return rand.Text() }

// Captured implements [scheduler.Publisher]. It asks the server, because a publish to a
// subject that only plain subscribers hear is never answered.
func (p *publisher) Captured(ctx context.Context, subject string) bool {
	if _, ok := p.captured.Get(subject); ok {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, streams.CallTimeout)
	defer cancel()
	_, err := p.js.StreamNameBySubject(ctx, subject)
	if errors.Is(err, jetstream.ErrStreamNotFound) && p.subjects.IsWork(subject) {
		err = p.make(ctx)
	}
	switch {
	case err == nil:
		p.captured.Add(subject, struct{}{})
	case errors.Is(err, jetstream.ErrStreamNotFound), errors.As(err, new(*streams.IncompatibleError)), streams.IsOverlap(err):
		return false
	default:
		p.log.Debug("it is not known whether a stream captures a target", "target", subject, "error", err)
	}
	return true
}

// Publish implements [scheduler.Publisher]. It publishes again what a stream does not
// confirm; the message id makes a repeat recognisable.
func (p *publisher) Publish(ctx context.Context, op *events.Operation, m scheduler.Message, timeout time.Duration) *policy.Failure {
	msg := &nats.Msg{Subject: op.Work.Target, Header: wire.WorkHeader(op, m.Header, p.subjects, timeout), Data: m.Data}
	wire.HideStatus(msg)
	ctx, cancel := context.WithTimeout(ctx, min(max(timeout, minPublishing), maxPublishing))
	defer cancel()
	pauses := backoff.Backoff{First: shortestBackoff, Longest: longestBackoff}
	for {
		_, err := p.publisher.PublishMsg(ctx, msg)
		if err == nil {
			return nil
		}
		if errors.Is(err, nats.ErrPermissionViolation) {
			failure := p.deny.failure(msg.Subject)
			return &failure
		}
		p.captured.Remove(msg.Subject) // it may be captured no more
		if refused := refusal(msg.Subject, err); refused != nil {
			return refused
		}
		if !pauses.Wait(ctx) {
			p.log.Warn("it is not known whether an operation reached its target; its watchdog stands", "operation", op.ID, "target", msg.Subject, "error", err)
			return nil
		}
	}
}

// prepare makes the stream of the default targets before the first operation if a policy
// publishes to workers, so that these can be set up.
func (p *publisher) prepare(ctx context.Context, set *policy.Set) {
	if !set.Publishes() {
		return
	}
	if err := p.make(ctx); err != nil && !streams.IsOverlap(err) {
		p.log.Warn("the stream of workers could not be made and will be retried", "error", err)
	}
}

// make makes the stream of the default targets if it is missing.
func (p *publisher) make(ctx context.Context) error {
	_, err := p.js.Stream(ctx, p.work.Name)
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	err = streams.Ensure(ctx, p.js, []jetstream.StreamConfig{p.work})
	if err == nil {
		p.log.Info("made the stream of workers, because no other captures its subjects", "stream", p.work.Name)
	}
	return err
}

// refusal returns the failure of an attempt that a stream refuses, nil if it is not
// known to refuse.
func refusal(subject string, err error) *policy.Failure {
	var api *jetstream.APIError
	var incompatible *streams.IncompatibleError
	switch {
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		failure := scheduler.NoStream(subject)
		return &failure
	case errors.Is(err, jetstream.ErrInvalidJSAck):
		return &policy.Failure{Code: scheduler.CodeNoStream, Message: "what answers on " + subject + " is no stream"}
	case errors.As(err, &incompatible):
		return &policy.Failure{Code: scheduler.CodeNoStream, Message: incompatible.Error()}
	case errors.As(err, &api):
		return &policy.Failure{Code: strconv.Itoa(api.Code), Message: "the stream of " + subject + " answers: " + api.Description}
	case errors.Is(err, nats.ErrMaxPayload):
		return &policy.Failure{Code: nats.ErrMaxPayload.Error(), Message: "the operation with its headers is larger than the server takes"}
	}
	return nil
}
