package handlers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nuid"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/internal/deadletter"
	"github.com/rebound-mq/rebound/internal/strictjson"
	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/schemas"
)

// ServiceName is the service's name in the NATS micro framework and the first
// token of its endpoints.
const ServiceName = "rebound"

// requestTimeout bounds how long a request may be worked on.
const requestTimeout = 30 * time.Second

// maxErrorText is the longest text of an error that is answered, in bytes.
const maxErrorText = 16 << 10

// statusLimit is how many breakers and gates a status tells of.
const statusLimit = 20

// The error codes that a request may be answered with, like those of HTTP.
const (
	codeBadRequest = "400"
	codeForbidden  = "403"
	codeNotFound   = "404"
	codeConflict   = "409"
	codeTooMany    = "429"
	codeInternal   = "500"
)

// endpoint is one request that the service answers.
type endpoint struct {
	name, subject string
	// request and response name the schemas, empty for none.
	request, response string
	// everywhere makes every instance answer, rather than one of them.
	everywhere bool
	handle     func(ctx context.Context, r micro.Request) (any, error)
}

// badRequestError marks an error that the requester can mend.
type badRequestError struct{ error }

func (b badRequestError) Unwrap() error { return b.error }

// serve registers the service with its endpoints. Requests and health reports
// that are sent once it has returned are heard.
func (s *Service) serve(ctx context.Context) error {
	service, err := micro.AddService(s.nc, micro.Config{
		Name: ServiceName, Version: s.config.Version,
		Description: "Retries failed operations: holds them, brings them back, keeps what finally failed.",
		Metadata:    map[string]string{"prefix": s.config.Prefix, aheadMetadata: aheadCapable},
	})
	if err != nil {
		return fmt.Errorf("registering the service: %w", err)
	}
	s.micro = service
	group := service.AddGroup(ServiceName)
	for _, e := range []endpoint{
		{"submit", "submit.*.*", "rebound.operation.failed.v1", "submitted", false, s.submit},
		{"report", "report.*.*", "rebound.report.v1", "reported.response", false, s.report},
		{"status", "status", "", "status.response", false, s.status},
		{"health", "health", "health.request", "health.response", true, s.health},
		{"coordination", "coordination", "", "coordination.response", false, s.coordination},
		{"breaker-list", "breaker.list", "breakerList.request", "breakerList.response", false, s.breakerList},
		{"breaker-show", "breaker.show", "breakerShow.request", "breakerShow.response", false, s.breakerShow},
		{"breaker-trip", "breaker.trip", "breakerAct.request", "breakerAct.response", false, s.breakerTrip},
		{"breaker-hold", "breaker.hold", "breakerAct.request", "breakerAct.response", false, s.breakerHold},
		{"breaker-reset", "breaker.reset", "breakerAct.request", "breakerAct.response", false, s.breakerReset},
		{"policy-show", "policy.show", "", "policyShow.response", true, s.policyShow},
		{"policy-check", "policy.check", "policySource.request", "policyCheck.response", false, s.policyCheck},
		{"policy-explain", "policy.explain", "policyExplain.request", "policyExplain.response", false, s.policyExplain},
		{"policy-apply", "policy.apply", "policySource.request", "policyApplied.response", false, s.policyApply},
		{"policy-history", "policy.history", "", "policyHistory.response", false, s.policyHistory},
		{"policy-rollback", "policy.rollback", "policyRollback.request", "policyApplied.response", false, s.policyRollback},
		{"adopt-add", "adopt.add", "adoptAdd.request", "adoptAdded.response", false, s.adoptAdd},
		{"adopt-list", "adopt.list", "", "adoptList.response", false, s.adoptList},
		{"adopt-remove", "adopt.remove", "adoptRemove.request", "adoptRemoved.response", false, s.adoptRemove},
		{"dead-list", "dead.list", "deadList.request", "deadList.response", false, s.deadList},
		{"dead-show", "dead.show", "deadShow.request", "deadLetter", false, s.deadShow},
		{"dead-replay", "dead.replay", "deadAct.request", "deadAct.response", false, s.deadReplay},
		{"dead-discard", "dead.discard", "deadAct.request", "deadAct.response", false, s.deadDiscard},
	} {
		metadata := map[string]string{"schema.response": schemas.Compact(e.response)}
		if e.request != "" {
			metadata["schema.request"] = schemas.Compact(e.request)
		}
		options := []micro.EndpointOpt{micro.WithEndpointSubject(e.subject), micro.WithEndpointMetadata(metadata)}
		if e.everywhere {
			options = append(options, micro.WithEndpointQueueGroupDisabled())
		}
		err := group.AddEndpoint(e.name, s.answer(ctx, e), options...)
		if err != nil {
			_ = service.Stop()
			return fmt.Errorf("registering endpoint %s: %w", e.name, err)
		}
	}
	// The server knows of all subscriptions when this is answered.
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if err := s.nc.FlushWithContext(ctx); err != nil {
		_ = service.Stop()
		return fmt.Errorf("registering the service: %w", err)
	}
	return nil
}

// answer wraps an endpoint: it bounds the time, answers in JSON, and turns
// errors into NATS micro errors. An endpoint answers one request after the
// other: the framework takes the times and errors of its statistics from a
// handler that has returned.
func (s *Service) answer(ctx context.Context, e endpoint) micro.HandlerFunc {
	return func(r micro.Request) {
		s.during(func() {
			ctx, cancel := context.WithTimeout(ctx, requestTimeout)
			defer cancel()
			response, err := e.respond(ctx, r)
			if err == nil {
				err = r.RespondJSON(response)
			} else {
				code := codeInternal
				var refused *scheduler.RefusedError
				switch {
				case errors.As(err, &refused):
					code = refusalCode(refused.Refusal)
				case errors.As(err, new(*manyError)):
					code = codeTooMany
				case errors.As(err, new(badRequestError)), errors.As(err, new(*events.RejectedError)):
					code = codeBadRequest
				case errors.Is(err, deadletter.ErrNotFound), errors.As(err, new(notFoundError)):
					code = codeNotFound
				default:
					s.log.Error("a request failed", "endpoint", e.name, "error", err)
				}
				text := shortened(err.Error())
				body, _ := json.Marshal(map[string]string{"code": code, "error": text})
				err = r.Error(code, strings.Join(strings.Fields(text), " "), body)
			}
			if err != nil {
				s.log.Debug("a request could not be answered", "endpoint", e.name, "error", err)
			}
		})
	}
}

// respond handles a request. One that has nothing to say says nothing.
func (e endpoint) respond(ctx context.Context, r micro.Request) (any, error) {
	if e.request == "" {
		if err := read(r, new(struct{})); err != nil {
			return nil, err
		}
	}
	return e.handle(ctx, r)
}

// shortened bounds the text of an error, which may repeat much of a request: an
// answer that the server does not take would be none.
func shortened(text string) string {
	text = strings.ToValidUTF8(text, "\ufffd")
	if len(text) <= maxErrorText {
		return text
	}
	end := maxErrorText
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}

// read decodes a request strictly; an empty one is the zero value.
func read(r micro.Request, into any) error {
	if len(r.Data()) == 0 {
		return nil
	}
	if err := strictjson.Unmarshal(r.Data(), into); err != nil {
		return badRequestError{fmt.Errorf("reading the request: %w", err)}
	}
	return nil
}

// submit stores a submission after checking it, and answers with its id. A
// message published on the submit subject itself is answered by JetStream,
// which knows where it is stored but not what it is.
func (s *Service) submit(ctx context.Context, r micro.Request) (any, error) {
	subject := s.config.Prefix + ".submit." + strings.TrimPrefix(r.Subject(), ServiceName+".submit.")
	h := nats.Header(r.Headers())
	now := s.clock.Now()
	submission := wire.Submission{Subject: subject, Header: h, Data: r.Data(), Name: nuid.Next(), Received: now}
	op, err := wire.DecodeSubmission(s.subjects, submission)
	if err == nil {
		err = s.intake.Fits(op, h, r.Data())
	}
	if err == nil {
		err = s.intake.pipeline.Check(op)
	}
	var rejected *events.RejectedError
	if errors.As(err, &rejected) {
		s.metrics.Rejected(ctx, rejected.Service, rejected.Operation)
	}
	if err == nil {
		err = s.limit.admit(ctx, op.Service)
	}
	if errors.As(err, new(*manyError)) {
		s.metrics.Refused(ctx, op)
	}
	if err != nil {
		return nil, err
	}
	m := &nats.Msg{Subject: subject, Header: wire.CarriedHeader(h), Data: r.Data()}
	wire.AddAttributes(op, m.Header)
	ack, err := s.js.PublishMsg(ctx, m, jetstream.WithMsgID(op.MessageID("submit")))
	if err != nil {
		if err = s.limit.stored(op.Service, op.Operation, err); errors.As(err, new(*manyError)) {
			s.metrics.Refused(ctx, op)
		}
		return nil, err
	}
	return schemas.Submitted{ID: op.ID, EventID: op.EventID, Source: op.Source, Stream: ack.Stream, Sequence: ack.Sequence, Duplicate: ack.Duplicate}, nil
}

// status counts what waits where. The counts are taken one after the other, so
// that under load they need not add up.
func (s *Service) status(ctx context.Context, _ micro.Request) (any, error) {
	status := schemas.Status{
		Instance: s.id, Version: s.config.Version, Started: s.started.UTC(), Server: s.nc.ConnectedServerVersion(),
	}
	status.Policies, _ = s.follower.inForce()
	status.Reports = schemas.ReportCounts{Taken: s.workReports.taken.Load(), Refused: s.workReports.refused.Load()}
	messages := func(stream string) (uint64, error) {
		st, err := s.js.Stream(ctx, stream)
		if err != nil {
			return 0, fmt.Errorf("reading stream %s: %w", stream, err)
		}
		return st.CachedInfo().State.Msgs, nil
	}
	for _, p := range s.pullers {
		c, err := s.js.Consumer(ctx, p.Stream(), p.Name())
		if err != nil {
			return nil, fmt.Errorf("reading consumer %s: %w", p.Name(), err)
		}
		info := c.CachedInfo()
		switch waiting := info.NumPending + uint64(info.NumAckPending); {
		case p.Name() == reportConsumer:
			status.Reports.Waiting = waiting
			continue
		case p.Stream() == s.streams.Intake():
			status.Submitted = waiting
			continue
		}
		status.Due += info.NumPending
		status.InFlight += uint64(info.NumAckPending)
	}
	var err error
	status.Limit, status.Waiting = s.limit.most, []schemas.ServiceSubmitted{}
	if status.Submitted > 0 {
		if status.Waiting, err = s.limit.submissions.most(ctx, maxWaitingShown); err != nil {
			return nil, err
		}
	}
	waiting, err := messages(s.streams.Waiting())
	if err != nil {
		return nil, err
	}
	if status.Held, err = s.lanes.Count(ctx, "", ""); err != nil {
		return nil, err
	}
	if active := status.Due + status.InFlight + status.Held; waiting > active {
		status.Parked = waiting - active
	}
	if status.Dead, err = messages(s.streams.Dead()); err != nil {
		return nil, err
	}
	if status.Outcomes, err = messages(s.streams.Outcomes()); err != nil {
		return nil, err
	}
	status.RetryCoordination = s.Coordination()
	status.Gates, status.GateCounts = s.gates.Worst(statusLimit, s.clock.Now())
	status.LimitsShared, status.Coordination = !s.leases.Divided(), s.breakers.coordination()
	status.Breakers, status.BreakerCounts = s.breakers.notClosed(ctx, statusLimit)
	return status, nil
}

func (s *Service) deadList(ctx context.Context, r micro.Request) (any, error) {
	var f events.DeadLetterFilter
	if err := read(r, &f); err != nil {
		return nil, err
	}
	if err := bound(&f, schemas.DefaultListLimit, schemas.MaxListLimit); err != nil {
		return nil, err
	}
	list := schemas.DeadList{DeadLetters: []schemas.DeadSummary{}}
	for d, err := range s.letters.List(ctx, f) {
		if err != nil {
			return nil, err
		}
		list.DeadLetters = append(list.DeadLetters, schemas.SummariseDead(d))
		if len(list.DeadLetters) == f.Limit {
			list.Next = d.Sequence
		}
	}
	return list, nil
}

func (s *Service) deadShow(ctx context.Context, r micro.Request) (any, error) {
	var request schemas.DeadShow
	if err := read(r, &request); err != nil {
		return nil, err
	}
	if err := (events.DeadLetterFilter{IDs: []string{request.ID}}).Check(); err != nil {
		return nil, badRequestError{err}
	}
	return s.letters.Get(ctx, request.ID)
}

func (s *Service) deadReplay(ctx context.Context, r micro.Request) (any, error) {
	return s.act(ctx, r, s.letters.Replay)
}

func (s *Service) deadDiscard(ctx context.Context, r micro.Request) (any, error) {
	return s.act(ctx, r, s.letters.Discard)
}

// act does one thing to every dead letter that a request selects.
func (s *Service) act(ctx context.Context, r micro.Request, do func(context.Context, *events.DeadLetter) error) (any, error) {
	var request schemas.DeadAct
	if err := read(r, &request); err != nil {
		return nil, err
	}
	if request.Everything() && !request.All {
		return nil, badRequestError{errors.New("the filter selects every dead letter; set all to true if that is meant")}
	}
	if err := bound(&request.DeadLetterFilter, schemas.MaxActLimit, schemas.MaxActLimit); err != nil {
		return nil, err
	}
	var acted schemas.DeadActed
	for d, err := range s.letters.List(ctx, request.DeadLetterFilter) {
		if err != nil {
			return nil, err
		}
		acted.Matched++
		if !request.DryRun {
			switch err := do(ctx, d); {
			case err == nil:
				acted.Done++
			case !errors.Is(err, deadletter.ErrNotFound):
				return nil, fmt.Errorf("after %d of them: %w", acted.Done, err)
			}
		}
		if acted.Matched == request.Limit {
			acted.Next = d.Sequence
		}
	}
	return acted, nil
}

// bound checks a filter and gives it a limit.
func bound(f *events.DeadLetterFilter, otherwise, most int) error {
	if err := f.Check(); err != nil {
		return badRequestError{err}
	}
	if f.IDs != nil && len(f.IDs) == 0 {
		return badRequestError{errors.New("ids is an empty list; leave it out to select any")}
	}
	if f.Limit == 0 {
		f.Limit = otherwise
	}
	if f.Limit > most {
		return badRequestError{fmt.Errorf("limit %d is more than the %d allowed", f.Limit, most)}
	}
	return nil
}
