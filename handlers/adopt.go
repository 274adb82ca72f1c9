package handlers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/adoption"
	"github.com/rebound-mq/rebound/internal/policies"
	"github.com/rebound-mq/rebound/internal/pull"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/scheduler/policy"
	"github.com/rebound-mq/rebound/schemas"
)

// adoptedInFlight is how many messages are taken over at once; each may be as large as
// the server allows.
const adoptedInFlight = 64

// adopting takes over the messages of adopted consumers.
type adopting struct {
	bucket   *adoption.Bucket
	capture  *adoption.Capture
	register *adoption.Register
	follower *adoption.Follower
	relay    *adoption.Relay
	// advisories hands each advisory to the takeover.
	advisories *pull.Puller
	draining   <-chan struct{}
}

// adopt builds the takeover of adopted consumers' messages.
func (p *parts) adopt(ctx context.Context) error {
	return p.waiter.Await(ctx, "the adopted consumers", func(ctx context.Context) (err error) {
		p.adoptions, err = newAdopting(ctx, p)
		return err
	})
}

// newAdopting opens the bucket of adoptions and builds the parts that use it.
func newAdopting(ctx context.Context, p *parts) (*adopting, error) {
	prefix, replicas := p.config.Prefix, p.config.Limits.Replicas
	bucket, err := adoption.Ensure(ctx, p.js, prefix, replicas)
	if err != nil {
		return nil, err
	}
	capture := adoption.NewCapture(p.js, prefix, replicas)
	register := adoption.NewRegister(bucket, adoption.RegisterConfig{JetStream: p.js, Prefix: prefix, Replicas: replicas, Log: p.log})
	takeover := adoption.NewTakeover(p.js, register, p.intake, p.policies.inForce)
	relay := adoption.NewRelay(adoption.RelayConfig{
		Conn: p.nc, JetStream: p.js, Subjects: p.subjects, Stream: capture.Stream(),
		Claimed: takeover.Claimed, Draining: p.life.Draining(), Log: p.log,
	})
	return &adopting{
		bucket: bucket, capture: capture, register: register, follower: adoption.NewFollower(register, relay, capture), relay: relay,
		advisories: p.puller(source{
			stream: capture.Stream(), consumer: "rebound-advisories",
			limit: pull.NewLimit(adoptedInFlight, 1), bytes: pull.NewBytes(p.config.MaxInFlightBytes),
		}, takeover.Handle),
		draining: p.life.Draining(),
	}, nil
}

// takeOver pulls advisories once a consumer is adopted.
func (a *adopting) takeOver(ctx context.Context) {
	select {
	case <-a.follower.Begun():
		a.advisories.Run(ctx)
	case <-a.draining:
	case <-ctx.Done():
	}
}

// adoptRequests answers requests about adopted consumers.
type adoptRequests struct {
	*base
	adoptions *adopting
	pipeline  *scheduler.Pipeline
}

func (q adoptRequests) add(ctx context.Context, r micro.Request) (any, error) {
	var request schemas.AdoptAdd
	if err := read(r, &request); err != nil {
		return nil, err
	}
	ad := adoption.Adoption{
		Stream: request.Stream, Consumer: request.Consumer, Target: request.Target, AdoptedAt: time.Now().UTC().Round(0),
		Service: cmp.Or(request.Service, request.Stream), Operation: cmp.Or(request.Operation, request.Consumer),
	}
	if err := ad.Check(q.subjects); err != nil {
		return nil, badRequestError{err}
	}
	found, err := adoption.Find(ctx, q.js, ad.Stream, ad.Consumer)
	if errors.Is(err, adoption.ErrNoStream) || errors.Is(err, adoption.ErrNoConsumer) {
		return nil, notFoundError{err}
	}
	if err != nil {
		return nil, err
	}
	ad.StreamCreated, ad.ConsumerCreated = found.Stream.Created.UTC(), found.Consumer.Created.UTC()
	warnings, err := q.judge(ctx, ad, found)
	if err != nil {
		return nil, err
	}

	_, err = q.adoptions.bucket.Get(ctx, ad.Stream, ad.Consumer)
	isNew := errors.Is(err, adoption.ErrNotAdopted)
	if err != nil && !isNew {
		return nil, err
	}
	if err := q.adoptions.bucket.Put(ctx, ad); err != nil {
		return nil, err
	}
	err = q.adoptions.follower.Await(ctx, func(list []adoption.Adoption) bool { return slices.Contains(list, ad) })
	if err != nil && isNew {
		// The request may have timed out.
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), streams.CallTimeout)
		defer cancel()
		err = errors.Join(err, q.adoptions.bucket.Remove(undo, ad.Stream, ad.Consumer))
	}
	if err != nil {
		return nil, err
	}
	return schemas.AdoptAdded{AdoptedConsumer: q.describe(ad, warnings), Replaced: !isNew}, nil
}

// judge returns an error if a consumer cannot be adopted, and otherwise warnings.
func (q adoptRequests) judge(ctx context.Context, ad adoption.Adoption, found adoption.Candidate) (warnings []string, err error) {
	policy := q.pipeline.Policies().Resolve(policy.Query{Service: ad.Service, Operation: ad.Operation})
	target := policy.TargetOf(ad.Target, ad.Service, ad.Operation)
	if err := q.pipeline.Check(&events.Operation{Service: ad.Service, Operation: ad.Operation, Target: ad.Target}); err != nil {
		return nil, badRequestError{errors.Unwrap(err)}
	}
	warnings, err = found.Judge(adoption.Route{Target: target, MaxAttempts: policy.MaxAttempts}, q.ownStreams())
	if err != nil {
		return nil, badRequestError{err}
	}
	switch name, err := q.js.StreamNameBySubject(ctx, target); {
	case errors.Is(err, jetstream.ErrStreamNotFound):
	case err != nil:
		return nil, fmt.Errorf("looking for a stream on %s: %w", target, err)
	default:
		warnings = append(warnings, fmt.Sprintf("stream %s stores what goes to target %s, and that it is stored counts as its success", name, target))
	}
	err = q.adoptions.capture.Captured(ctx, []adoption.Adoption{ad})
	if errors.As(err, new(*adoption.CapturedError)) {
		err = badRequestError{err}
	}
	return warnings, err
}

// ownStreams lists the names of Rebound's streams, including those behind its
// buckets.
func (q adoptRequests) ownStreams() []string {
	var names []string
	for _, c := range streams.Configs(q.streams, q.config.Limits) {
		names = append(names, c.Name)
	}
	names = append(names, q.streams.Advisories(), q.streams.Work())
	for _, bucket := range []string{
		policies.BucketName(q.config.Prefix), adoption.BucketName(q.config.Prefix), adoption.LedgerName(q.config.Prefix),
		q.streams.LanesBucket(), q.streams.BreakersBucket(), q.streams.LedgersBucket(),
	} {
		names = append(names, "KV_"+bucket)
	}
	return names
}

func (q adoptRequests) describe(ad adoption.Adoption, warnings []string) schemas.AdoptedConsumer {
	policy := q.pipeline.Policies().Resolve(policy.Query{Service: ad.Service, Operation: ad.Operation})
	return schemas.AdoptedConsumer{
		Stream: ad.Stream, Consumer: ad.Consumer, Service: ad.Service, Operation: ad.Operation,
		Target: policy.TargetOf(ad.Target, ad.Service, ad.Operation), AdoptedAt: ad.AdoptedAt, Warnings: warnings,
	}
}

func (q adoptRequests) list(ctx context.Context, _ micro.Request) (any, error) {
	list, err := q.adoptions.bucket.List(ctx)
	if err != nil {
		return nil, err
	}
	out := schemas.AdoptList{Consumers: []schemas.AdoptedConsumer{}}
	for _, ad := range list {
		warnings, err := q.review(ctx, ad)
		if err != nil {
			return nil, err
		}
		out.Consumers = append(out.Consumers, q.describe(ad, warnings))
	}
	stream, err := q.js.Stream(ctx, q.streams.Advisories())
	switch {
	case err == nil:
		out.Waiting = stream.CachedInfo().State.Msgs
	case !errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, fmt.Errorf("reading stream %s: %w", q.streams.Advisories(), err)
	}
	return out, nil
}

// review returns what is wrong with an adopted consumer now.
func (q adoptRequests) review(ctx context.Context, ad adoption.Adoption) (warnings []string, err error) {
	found, err := adoption.Find(ctx, q.js, ad.Stream, ad.Consumer)
	switch {
	case errors.Is(err, adoption.ErrNoStream), errors.Is(err, adoption.ErrNoConsumer):
		return []string{err.Error()}, nil
	case err != nil:
		return nil, err
	}
	warnings, err = q.judge(ctx, ad, found)
	if bad := (badRequestError{}); errors.As(err, &bad) {
		warnings, err = append(warnings, bad.Error()), nil
	}
	if err != nil {
		return nil, err
	}
	missing, err := q.adoptions.capture.Missing(ctx, []adoption.Adoption{ad})
	if err == nil && len(missing) > 0 {
		warnings = append(warnings, fmt.Sprintf("stream %s does not store what the server says of consumer %s yet", q.streams.Advisories(), ad.Consumer))
	}
	return warnings, err
}

func (q adoptRequests) remove(ctx context.Context, r micro.Request) (any, error) {
	var request schemas.AdoptRemove
	if err := read(r, &request); err != nil {
		return nil, err
	}
	if err := adoption.CheckNames(request.Stream, request.Consumer); err != nil {
		return nil, badRequestError{err}
	}
	err := q.adoptions.bucket.Remove(ctx, request.Stream, request.Consumer)
	if errors.Is(err, adoption.ErrNotAdopted) {
		return nil, notFoundError{err}
	}
	if err != nil {
		return nil, err
	}
	err = q.adoptions.follower.Await(ctx, func(list []adoption.Adoption) bool {
		return !slices.ContainsFunc(list, func(ad adoption.Adoption) bool { return ad.Stream == request.Stream && ad.Consumer == request.Consumer })
	})
	if err != nil {
		return nil, err
	}
	return request, nil
}
