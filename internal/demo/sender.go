package demo

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
)

// maxDeliveries bounds the first deliveries in progress.
const maxDeliveries = 512

// sender is the service that delivers webhooks. It tries each once and submits those that fail.
type sender struct {
	js        jetstream.JetStream
	payloads  []payload
	behaviour behaviour
	// perSecond is the rate of first deliveries.
	perSecond float64
	// goal is how many operations are submitted, 0 for no bound.
	goal  int
	tally *tally

	submitted atomic.Int64
	done      atomic.Bool
}

// run delivers until goal operations are submitted or ctx ends.
func (s *sender) run(ctx context.Context) error {
	ctx, enough := context.WithCancel(ctx)
	defer enough()
	defer s.done.Store(true)
	order := rand.New(rand.NewPCG(s.behaviour.seed, 1)).Perm(len(s.payloads))
	// Deliveries that a busy machine delays are made up for. None is to be made up for yet.
	limiter := rate.NewLimiter(rate.Limit(s.perSecond), 1+int(s.perSecond))
	limiter.AllowN(time.Now(), limiter.Burst())
	// A failed delivery keeps its slot, so that at most goal can fail.
	slots := semaphore.NewWeighted(int64(cmp.Or(s.goal, math.MaxInt)))

	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(maxDeliveries)
	for n := 0; ; n++ {
		if slots.Acquire(groupCtx, 1) != nil || limiter.Wait(groupCtx) != nil {
			break
		}
		group.Go(func() error {
			p := s.payloads[order[n%len(order)]]
			failed, err := s.send(ctx, s.behaviour.deliveryID(n), p)
			switch {
			case err != nil:
				return err
			case !failed:
				slots.Release(1)
			case s.submitted.Add(1) == int64(s.goal):
				enough()
			}
			return nil
		})
	}
	return group.Wait()
}

// send makes the first delivery of a webhook and submits the webhook if that fails.
func (s *sender) send(ctx context.Context, delivery string, p payload) (failed bool, err error) {
	begun := time.Now()
	failure, failed, err := s.deliver(ctx, delivery, p)
	if err != nil {
		if ctx.Err() != nil {
			return false, nil
		}
		return false, fmt.Errorf("delivering webhook %s: %w", delivery, err)
	}
	id := operationID(delivery, p.event)
	if !failed {
		s.tally.taken(id)
		return false, nil
	}
	m, err := submission(delivery, p, begun, failure)
	if err != nil {
		return false, err
	}
	// A failed delivery is submitted even if the demo ends meanwhile.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	s.tally.submit(id, p.event, sha256.Sum256(p.data))
	if _, err := s.js.PublishMsg(ctx, m, jetstream.WithMsgID(id)); err != nil {
		return false, fmt.Errorf("submitting operation %s: %w", id, err)
	}
	return true, nil
}

// failure is how a first delivery failed.
type failure struct{ code, text, retryAfter string }

// deliver makes the first delivery. An error means that it was not made.
func (s *sender) deliver(ctx context.Context, delivery string, p payload) (failure, bool, error) {
	m := nats.NewMsg(serviceName + "." + operationType(p.event))
	webhookHeader(m.Header, delivery, p)
	m.Data = p.data
	ctx, cancel := context.WithTimeout(ctx, s.behaviour.timeout)
	defer cancel()
	reply, err := s.js.Conn().RequestMsgWithContext(ctx, m)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return failure{code: "no_responders", text: "nobody listens on " + m.Subject}, true, nil
	case errors.Is(err, context.DeadlineExceeded):
		return failure{code: "timeout", text: "no answer within " + s.behaviour.timeout.String()}, true, nil
	case err != nil:
		return failure{}, false, err
	}
	code, text := wire.MicroError(reply.Header)
	return failure{code, text, wire.HeaderValue(reply.Header, events.HeaderRetryAfter)}, code != "", nil
}

// webhookHeader sets the headers that accompany a webhook at every delivery.
func webhookHeader(h nats.Header, delivery string, p payload) {
	h[headerEvent] = []string{p.event}
	h[headerDelivery] = []string{delivery}
}

// submission returns the message that submits a webhook whose first delivery failed: a CloudEvent
// in binary mode.
func submission(delivery string, p payload, at time.Time, f failure) (*nats.Msg, error) {
	e := event.New()
	e.SetID(delivery)
	e.SetSource(source)
	e.SetType(events.TypeFailed)
	e.SetSubject(p.event)
	e.SetTime(at)
	e.SetExtension("service", serviceName)
	e.SetExtension("operation", operationType(p.event))
	e.SetExtension("priority", priority(p.event).String())
	e.SetExtension("attempt", strconv.Itoa(1))
	e.SetExtension("firstfailure", at.UTC().Format(time.RFC3339Nano))
	e.SetExtension("errorcode", f.code)
	e.SetExtension("errormessage", f.text)
	if f.retryAfter != "" {
		e.SetExtension("retryafter", f.retryAfter)
	}
	if err := e.SetData(event.ApplicationJSON, p.data); err != nil {
		return nil, fmt.Errorf("encoding webhook %s: %w", delivery, err)
	}
	m, err := wire.EncodeCloudEvent(events.Subjects{}.Submit(serviceName, operationType(p.event)), &e)
	if err != nil {
		return nil, err
	}
	webhookHeader(m.Header, delivery, p)
	return m, nil
}

// priority ranks events by how soon somebody misses them.
func priority(event string) events.Priority {
	switch event {
	case "security_advisory", "repository_vulnerability_alert", "code_scanning_alert":
		return events.Critical
	case "push", "pull_request", "deployment", "workflow_run":
		return events.High
	case "star", "watch", "fork", "gollum", "page_build":
		return events.Low
	}
	return events.Normal
}
