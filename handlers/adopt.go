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
	"github.com/rebound-mq/rebound/scheduler/policy"
	"github.com/rebound-mq/rebound/schemas"
)

// adoptedInFlight is how many messages are taken over at once. Each may be as large as the
// server allows.
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

// adopt builds what takes over the messages of adopted consumers.
func (s *Service) adopt(ctx context.Context) error {
	prefix, replicas := s.config.Prefix, s.config.Limits.Replicas
	bucket, err := adoption.Ensure(ctx, s.js, prefix, replicas)
	if err != nil {
		return err
	}
	capture := adoption.NewCapture(s.js, prefix, replicas)
	register := adoption.NewRegister(bucket, adoption.RegisterConfig{JetStream: s.js, Prefix: prefix, Replicas: replicas, Log: s.log})
	takeover := adoption.NewTakeover(s.js, register, s.intake, s.policies.Load)
	relay := adoption.NewRelay(adoption.RelayConfig{
		Conn: s.nc, JetStream: s.js, Subjects: s.subjects, Stream: capture.Stream(), Group: ServiceName,
		Claimed: takeover.Claimed, Draining: s.draining, Log: s.log,
	})
	advisories := pull.Durable(s.js, capture.Stream(), streams.Consumer("rebound-advisories", "", s.config.Lease, maxAckPending))
	s.adoptions = &adopting{
		bucket: bucket, capture: capture, register: register, follower: adoption.NewFollower(register, relay, capture), relay: relay,
		advisories: pull.New(advisories, takeover.Handle, pull.Config{
			Conn: s.nc, Limit: pull.NewLimit(adoptedInFlight, 1), Bytes: pull.NewBytes(s.config.MaxInFlightBytes),
			Draining: s.draining, Log: s.log,
		}),
		draining: s.draining,
	}
	return nil
}

// takeOver pulls advisories from when the first consumer is adopted.
func (a *adopting) takeOver(ctx context.Context) {
	select {
	case <-a.follower.Begun():
		a.advisories.Run(ctx)
	case <-a.draining:
	case <-ctx.Done():
	}
}

func (s *Service) adoptAdd(ctx context.Context, r micro.Request) (any, error) {
	var request schemas.AdoptAdd
	if err := read(r, &request); err != nil {
		return nil, err
	}
	ad := adoption.Adoption{
		Stream: request.Stream, Consumer: request.Consumer, Target: request.Target, AdoptedAt: time.Now().UTC().Round(0),
		Service: cmp.Or(request.Service, request.Stream), Operation: cmp.Or(request.Operation, request.Consumer),
	}
	if err := ad.Check(s.subjects); err != nil {
		return nil, badRequestError{err}
	}
	found, err := adoption.Find(ctx, s.js, ad.Stream, ad.Consumer)
	if errors.Is(err, adoption.ErrNoStream) || errors.Is(err, adoption.ErrNoConsumer) {
		return nil, notFoundError{err}
	}
	if err != nil {
		return nil, err
	}
	ad.StreamCreated, ad.ConsumerCreated = found.Stream.Created.UTC(), found.Consumer.Created.UTC()
	warnings, err := s.judge(ctx, ad, found)
	if err != nil {
		return nil, err
	}

	_, err = s.adoptions.bucket.Get(ctx, ad.Stream, ad.Consumer)
	isNew := errors.Is(err, adoption.ErrNotAdopted)
	if err != nil && !isNew {
		return nil, err
	}
	if err := s.adoptions.bucket.Put(ctx, ad); err != nil {
		return nil, err
	}
	err = s.adoptions.follower.Await(ctx, func(list []adoption.Adoption) bool { return slices.Contains(list, ad) })
	if err != nil && isNew {
		// The time for the request may be over.
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), streams.CallTimeout)
		defer cancel()
		err = errors.Join(err, s.adoptions.bucket.Remove(undo, ad.Stream, ad.Consumer))
	}
	if err != nil {
		return nil, err
	}
	return schemas.AdoptAdded{AdoptedConsumer: s.describe(ad, warnings), Replaced: !isNew}, nil
}

// judge says whether a consumer may be adopted, and what to warn of.
func (s *Service) judge(ctx context.Context, ad adoption.Adoption, found adoption.Candidate) (warnings []string, err error) {
	policy := s.policies.Load().Resolve(policy.Query{Service: ad.Service, Operation: ad.Operation})
	target := policy.TargetOf(ad.Target, ad.Service, ad.Operation)
	if err := s.intake.pipeline.Check(&events.Operation{Service: ad.Service, Operation: ad.Operation, Target: ad.Target}); err != nil {
		return nil, badRequestError{errors.Unwrap(err)}
	}
	warnings, err = found.Judge(adoption.Route{Target: target, MaxAttempts: policy.MaxAttempts}, s.ownStreams())
	if err != nil {
		return nil, badRequestError{err}
	}
	switch name, err := s.js.StreamNameBySubject(ctx, target); {
	case errors.Is(err, jetstream.ErrStreamNotFound):
	case err != nil:
		return nil, fmt.Errorf("looking for a stream on %s: %w", target, err)
	default:
		warnings = append(warnings, fmt.Sprintf("stream %s stores what goes to target %s, and that it is stored counts as its success", name, target))
	}
	err = s.adoptions.capture.Captured(ctx, []adoption.Adoption{ad})
	if errors.As(err, new(*adoption.CapturedError)) {
		err = badRequestError{err}
	}
	return warnings, err
}

// ownStreams lists the names of Rebound's streams, those behind its buckets
// included.
func (s *Service) ownStreams() []string {
	var names []string
	for _, c := range streams.Configs(s.streams, s.config.Limits) {
		names = append(names, c.Name)
	}
	names = append(names, s.streams.Advisories(), s.streams.Work())
	for _, bucket := range []string{
		policies.BucketName(s.config.Prefix), adoption.BucketName(s.config.Prefix), adoption.LedgerName(s.config.Prefix),
		s.streams.LanesBucket(), s.streams.BreakersBucket(), s.streams.LedgersBucket(),
	} {
		names = append(names, "KV_"+bucket)
	}
	return names
}

func (s *Service) describe(ad adoption.Adoption, warnings []string) schemas.AdoptedConsumer {
	policy := s.policies.Load().Resolve(policy.Query{Service: ad.Service, Operation: ad.Operation})
	return schemas.AdoptedConsumer{
		Stream: ad.Stream, Consumer: ad.Consumer, Service: ad.Service, Operation: ad.Operation,
		Target: policy.TargetOf(ad.Target, ad.Service, ad.Operation), AdoptedAt: ad.AdoptedAt, Warnings: warnings,
	}
}

func (s *Service) adoptList(ctx context.Context, _ micro.Request) (any, error) {
	list, err := s.adoptions.bucket.List(ctx)
	if err != nil {
		return nil, err
	}
	out := schemas.AdoptList{Consumers: []schemas.AdoptedConsumer{}}
	for _, ad := range list {
		warnings, err := s.review(ctx, ad)
		if err != nil {
			return nil, err
		}
		out.Consumers = append(out.Consumers, s.describe(ad, warnings))
	}
	stream, err := s.js.Stream(ctx, s.streams.Advisories())
	switch {
	case err == nil:
		out.Waiting = stream.CachedInfo().State.Msgs
	case !errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, fmt.Errorf("reading stream %s: %w", s.streams.Advisories(), err)
	}
	return out, nil
}

// review says what is wrong with an adopted consumer by now.
func (s *Service) review(ctx context.Context, ad adoption.Adoption) (warnings []string, err error) {
	found, err := adoption.Find(ctx, s.js, ad.Stream, ad.Consumer)
	switch {
	case errors.Is(err, adoption.ErrNoStream), errors.Is(err, adoption.ErrNoConsumer):
		return []string{err.Error()}, nil
	case err != nil:
		return nil, err
	}
	warnings, err = s.judge(ctx, ad, found)
	if bad := (badRequestError{}); errors.As(err, &bad) {
		warnings, err = append(warnings, bad.Error()), nil
	}
	if err != nil {
		return nil, err
	}
	missing, err := s.adoptions.capture.Missing(ctx, []adoption.Adoption{ad})
	if err == nil && len(missing) > 0 {
		warnings = append(warnings, fmt.Sprintf("stream %s does not store what the server says of consumer %s yet", s.streams.Advisories(), ad.Consumer))
	}
	return warnings, err
}

func (s *Service) adoptRemove(ctx context.Context, r micro.Request) (any, error) {
	var request schemas.AdoptRemove
	if err := read(r, &request); err != nil {
		return nil, err
	}
	if err := adoption.CheckNames(request.Stream, request.Consumer); err != nil {
		return nil, badRequestError{err}
	}
	err := s.adoptions.bucket.Remove(ctx, request.Stream, request.Consumer)
	if errors.Is(err, adoption.ErrNotAdopted) {
		return nil, notFoundError{err}
	}
	if err != nil {
		return nil, err
	}
	err = s.adoptions.follower.Await(ctx, func(list []adoption.Adoption) bool {
		return !slices.ContainsFunc(list, func(ad adoption.Adoption) bool { return ad.Stream == request.Stream && ad.Consumer == request.Consumer })
	})
	if err != nil {
		return nil, err
	}
	return request, nil
}
