package handlers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/catalog"
	"github.com/rebound-mq/rebound/internal/deadletter"
	"github.com/rebound-mq/rebound/internal/intake"
	"github.com/rebound-mq/rebound/internal/pauses"
	"github.com/rebound-mq/rebound/internal/strictjson"
	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/schemas"
)

// requestTimeout is how long a request may take.
const requestTimeout = 30 * time.Second

// maxErrorText is the length of the longest error in an answer, in bytes.
const maxErrorText = 16 << 10

// The error codes of answers, like those of HTTP.
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

// badRequestError marks an error that the requester can fix.
type badRequestError struct{ error }

func (b badRequestError) Unwrap() error { return b.error }

// notFoundError marks an error about something that does not exist.
type notFoundError struct{ error }

func (n notFoundError) Unwrap() error { return n.error }

// endpoints lists the requests that the service answers.
func (p *parts) endpoints(m *monitor) []endpoint {
	submit := submitRequests{base: p.base, intake: p.intake, limit: p.limit}
	breakers := breakerRequests{breakers: p.breakers, lanes: p.lanes}
	policies := policyRequests{instance: p.id, follower: p.policies}
	adoptions := adoptRequests{base: p.base, adoptions: p.adoptions, pipeline: p.pipeline}
	letters := deadRequests{letters: p.letters}
	return []endpoint{
		{"submit", "submit.*.*", "rebound.operation.failed.v1", "submitted", false, submit.answer},
		{"report", "report.*.*", "rebound.report.v1", "reported.response", false, p.workReports.answer},
		{"status", "status", "", "status.response", false, m.status},
		{"health", "health", "health.request", "health.response", true, m.health},
		{"coordination", "coordination", "", "coordination.response", false, m.coordination},
		{"breaker-list", "breaker.list", "breakerList.request", "breakerList.response", false, breakers.list},
		{"breaker-show", "breaker.show", "breakerShow.request", "breakerShow.response", false, breakers.show},
		{"breaker-trip", "breaker.trip", "breakerAct.request", "breakerAct.response", false, breakers.trip},
		{"breaker-hold", "breaker.hold", "breakerAct.request", "breakerAct.response", false, breakers.hold},
		{"breaker-reset", "breaker.reset", "breakerAct.request", "breakerAct.response", false, breakers.reset},
		{"policy-show", "policy.show", "", "policyShow.response", true, policies.show},
		{"policy-check", "policy.check", "policySource.request", "policyCheck.response", false, policies.check},
		{"policy-explain", "policy.explain", "policyExplain.request", "policyExplain.response", false, policies.explain},
		{"policy-apply", "policy.apply", "policySource.request", "policyApplied.response", false, policies.apply},
		{"policy-history", "policy.history", "", "policyHistory.response", false, policies.history},
		{"policy-rollback", "policy.rollback", "policyRollback.request", "policyApplied.response", false, policies.rollback},
		{"pause", "pause", "pauseAdd.request", "pauseAdded.response", false, handle(p.pauses.Add)},
		{"resume", "resume", "pauseEnd.request", "pauseEnded.response", false, handle(p.pauses.End)},
		{"pause-list", "pause.list", "", "pauseList.response", false, handle(p.pauses.List)},
		{"key-find", "key.find", "keyFind.request", "keyFind.response", false, handle(p.catalog().Find)},
		{"adopt-add", "adopt.add", "adoptAdd.request", "adoptAdded.response", false, adoptions.add},
		{"adopt-list", "adopt.list", "", "adoptList.response", false, adoptions.list},
		{"adopt-remove", "adopt.remove", "adoptRemove.request", "adoptRemoved.response", false, adoptions.remove},
		{"dead-list", "dead.list", "deadList.request", "deadList.response", false, letters.list},
		{"dead-show", "dead.show", "deadShow.request", "deadLetter", false, letters.show},
		{"dead-replay", "dead.replay", "deadAct.request", "deadAct.response", false, letters.replay},
		{"dead-discard", "dead.discard", "deadAct.request", "deadAct.response", false, letters.discard},
	}
}

// catalog returns the catalog of the services and keys that were seen.
func (p *parts) catalog() *catalog.Catalog {
	return &catalog.Catalog{
		JetStream: p.reading, Subjects: p.subjects, Streams: p.streams,
		InUse: func() []string { return slices.AppendSeq(p.gates.Keys(), maps.Keys(p.breakers.group.States())) },
		Named: func() []string { return p.policies.inForce().Names() },
	}
}

// serve registers the service with its endpoints. Requests and health reports sent
// after it has returned are received.
func serve(b *base, endpoints []endpoint) (service micro.Service, err error) {
	service, err = micro.AddService(b.nc, micro.Config{
		Name: b.subjects.API(), Version: b.config.Version,
		Description: "Retries failed operations: holds them, brings them back, keeps what finally failed.",
		Metadata:    map[string]string{"prefix": b.config.Prefix, intake.CapabilityKey: intake.Capability},
	})
	if err != nil {
		return nil, fmt.Errorf("registering the service: %w", err)
	}
	defer func() {
		if err != nil {
			_ = service.Stop()
		}
	}()
	group := service.AddGroup(b.subjects.API(), micro.WithGroupQueueGroup(queueGroup(b.subjects)))
	for _, e := range endpoints {
		if err := group.AddEndpoint(e.name, e.answer(b), e.options()...); err != nil {
			return nil, fmt.Errorf("registering endpoint %s: %w", e.name, err)
		}
	}
	// Once the server answers this, it knows all subscriptions.
	ctx, cancel := context.WithTimeout(b.life.Context(), requestTimeout)
	defer cancel()
	if err := b.nc.FlushWithContext(ctx); err != nil {
		return nil, fmt.Errorf("registering the service: %w", err)
	}
	return service, nil
}

// queueGroup is the queue group of the endpoints. Under the default prefix it is the framework's
// own, because instances of the version before are in it during a rolling upgrade.
func queueGroup(s events.Subjects) string {
	if s.Prefix == events.DefaultPrefix {
		return micro.DefaultQueueGroup
	}
	return s.API()
}

// options returns the framework's options for an endpoint.
func (e endpoint) options() []micro.EndpointOpt {
	metadata := map[string]string{"schema.response": schemas.Compact(e.response)}
	if e.request != "" {
		metadata["schema.request"] = schemas.Compact(e.request)
	}
	options := []micro.EndpointOpt{micro.WithEndpointSubject(e.subject), micro.WithEndpointMetadata(metadata)}
	if e.everywhere {
		options = append(options, micro.WithEndpointQueueGroupDisabled())
	}
	return options
}

// answer wraps an endpoint: it bounds the time, answers in JSON, and turns errors into
// NATS micro errors. An endpoint answers one request at a time, because the framework
// measures times and errors when a handler returns.
func (e endpoint) answer(b *base) micro.HandlerFunc {
	return func(r micro.Request) {
		b.life.During(func() {
			ctx, cancel := context.WithTimeout(b.life.Context(), requestTimeout)
			defer cancel()
			response, err := e.respond(ctx, r)
			if err == nil {
				err = r.RespondJSON(response)
			} else {
				code := codeOf(err)
				if code == codeInternal {
					b.log.Error("a request failed", "endpoint", e.name, "error", err)
				}
				text := shortened(err.Error())
				body, _ := json.Marshal(map[string]string{"code": code, "error": text})
				err = r.Error(code, strings.Join(strings.Fields(text), " "), body)
			}
			if err != nil {
				b.log.Debug("a request could not be answered", "endpoint", e.name, "error", err)
			}
		})
	}
}

// codeOf returns the error code of an answer.
func codeOf(err error) string {
	var refused *scheduler.RefusedError
	switch {
	case errors.As(err, &refused):
		return refusalCode(refused.Refusal)
	case errors.As(err, new(*intake.TooManyError)):
		return codeTooMany
	case errors.As(err, new(badRequestError)), errors.As(err, new(*events.RejectedError)), errors.As(err, new(pauses.InvalidError)), errors.As(err, new(catalog.InvalidError)):
		return codeBadRequest
	case errors.Is(err, deadletter.ErrNotFound), errors.Is(err, pauses.ErrNotPaused), errors.As(err, new(notFoundError)):
		return codeNotFound
	}
	return codeInternal
}

// respond handles a request. An endpoint without a request schema accepts no data or an
// empty object.
func (e endpoint) respond(ctx context.Context, r micro.Request) (any, error) {
	if e.request == "" {
		if err := read(r, new(struct{})); err != nil {
			return nil, err
		}
	}
	return e.handle(ctx, r)
}

// shortened bounds the text of an error, which may quote much of a request, so that
// the server accepts the answer.
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

// handle makes a function of what is asked into the handler of an endpoint.
func handle[Q, A any](do func(context.Context, Q) (A, error)) func(context.Context, micro.Request) (any, error) {
	return func(ctx context.Context, r micro.Request) (any, error) {
		var request Q
		if err := read(r, &request); err != nil {
			return nil, err
		}
		return do(ctx, request)
	}
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
