package demo

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"golang.org/x/time/rate"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/backoff"
)

const (
	// serviceName is the name of the target, and the service of every operation.
	serviceName = "github"
	// source is the CloudEvents source of every operation.
	source = "/github"

	// releasePatience bounds how much longer a target stays well after an outage, as a multiple.
	releasePatience = 3

	// The headers of GitHub's webhooks.
	headerEvent    = "X-GitHub-Event"
	headerDelivery = "X-GitHub-Delivery"
)

// operationTypes are the operation types, and with them the endpoints and breakers of the target.
// They are few, so that the story of each is easy to follow.
var operationTypes = []string{"code", "issues", "account"}

// operationType returns the operation type of an event.
func operationType(event string) string {
	begins := func(prefix string) bool { return strings.HasPrefix(event, prefix) }
	switch {
	case slices.ContainsFunc([]string{"push", "pull_request", "check_", "workflow_", "create", "delete", "commit_", "release", "merge_"}, begins):
		return "code"
	case slices.ContainsFunc([]string{"issue", "discussion", "label", "milestone", "project", "sub_issue"}, begins):
		return "issues"
	}
	return "account"
}

// operationID returns the id that the operation of a webhook has or would have.
func operationID(delivery, event string) string {
	return events.OperationID(source, delivery, serviceName, operationType(event))
}

// target is a NATS micro service that receives webhooks, with an endpoint for each
// operation type, and follows a script of moods.
type target struct {
	nc        *nats.Conn
	script    script
	behaviour behaviour
	// perSecond is the rate that the target accepts while it limits the rate.
	perSecond float64
	// again reports whether to repeat the script at its end, released whether nothing is held.
	again, released func() bool
	tally           *tally

	ctx     context.Context // ends with the target; late answers stop with it
	late    sync.WaitGroup
	service micro.Service // nil while the target is down; used by run's goroutine alone

	mu    sync.Mutex // guards the fields below
	mood  mood
	until time.Time // zero if the mood stays
	spare *rate.Limiter
}

// run plays the script until ctx ends.
func (t *target) run(ctx context.Context) error {
	t.ctx = ctx
	defer t.late.Wait()
	defer func() {
		if t.service != nil {
			_ = t.service.Stop()
		}
	}()
	for i := 0; ; i = (i + 1) % len(t.script) {
		p := t.script[i]
		if err := t.listen(p.mood != down); err != nil {
			return err
		}
		t.enter(p.mood, time.Now().Add(p.time))
		if !backoff.Sleep(ctx, p.time) {
			return nil
		}
		if p.mood == back && !t.awaitRelease(ctx, p) {
			return nil
		}
		if i == len(t.script)-1 && !t.again() {
			t.enter(p.mood, time.Time{})
			<-ctx.Done()
			return nil
		}
	}
}

// awaitRelease stays in a phase until what was held is let out, so that the next ill does not meet
// it on a slow machine. ok is false if ctx has ended.
func (t *target) awaitRelease(ctx context.Context, p phase) (ok bool) {
	t.enter(p.mood, time.Time{})
	for end := time.Now().Add(releasePatience * p.time); !t.released() && time.Now().Before(end); {
		if !backoff.Sleep(ctx, watchEvery) {
			return false
		}
	}
	return ctx.Err() == nil
}

// listen starts or stops the micro service if necessary.
func (t *target) listen(up bool) (err error) {
	switch {
	case up && t.service == nil:
		if t.service, err = t.serve(); err != nil {
			return fmt.Errorf("starting the target: %w", err)
		}
	case !up && t.service != nil:
		if err = t.service.Stop(); err != nil {
			return fmt.Errorf("stopping the target: %w", err)
		}
		t.service = nil
	}
	return nil
}

// serve registers the micro service.
func (t *target) serve() (micro.Service, error) {
	service, err := micro.AddService(t.nc, micro.Config{
		Name: serviceName, Version: "1.0.0", Description: "Receives the webhooks of the demo, and falls ill",
	})
	if err != nil {
		return nil, err
	}
	group := service.AddGroup(serviceName)
	for _, name := range operationTypes {
		if err := group.AddEndpoint(name, micro.HandlerFunc(t.handle)); err != nil {
			_ = service.Stop()
			return nil, err
		}
	}
	// The server must know the subscriptions before anything is sent.
	return service, t.nc.Flush()
}

func (t *target) enter(m mood, until time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mood, t.until = m, until
	t.spare = rate.NewLimiter(rate.Limit(t.perSecond), 1+int(t.perSecond/4))
}

// state returns the mood and when it ends, zero for unknown.
func (t *target) state() (mood, time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mood, t.until
}

// handle handles one delivery.
func (t *target) handle(req micro.Request) {
	now := time.Now()
	h := req.Headers()
	delivery := h.Get(headerDelivery)
	id := operationID(delivery, h.Get(headerEvent))
	attempt, err := strconv.Atoi(h.Get(events.HeaderAttempt))
	if err != nil {
		attempt = 1
	}
	t.mu.Lock()
	m, spare := t.mood, t.mood != rateLimited || t.spare.Allow()
	t.mu.Unlock()

	a := t.behaviour.answer(m, delivery, attempt, spare)
	t.tally.arrived(id, attempt, now)
	if a.accepts() {
		t.tally.accepted(id, sha256.Sum256(req.Data()), a.after < t.behaviour.timeout)
	}
	switch {
	case a.silent:
	case a.code != "":
		header := micro.Headers{}
		if a.retryAfter > 0 {
			header["Retry-After"] = []string{strconv.Itoa(int(a.retryAfter / time.Second))}
		}
		_ = req.Error(a.code, a.text, nil, micro.WithHeaders(header))
	default:
		t.late.Go(func() {
			if backoff.Sleep(t.ctx, a.after) {
				_ = t.nc.Publish(req.Reply(), []byte(http.StatusText(http.StatusOK)))
			}
		})
	}
}
