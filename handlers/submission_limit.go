package handlers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/time/rate"

	"github.com/rebound-mq/rebound/events"
)

const (
	// codeManyPerSubject is what JetStream says of a message for which there is no
	// room on its subject.
	codeManyPerSubject = "maximum messages per subject exceeded"
	// countedFor is how long a count of the submissions of a service is relied on.
	countedFor = 250 * time.Millisecond
	// maxCounted is how many services are remembered with their counts.
	maxCounted = 1000
)

// manyError says that a service has as many submissions waiting as it may.
type manyError struct{ problem string }

func (e *manyError) Error() string { return e.problem }

// submissionLimit bounds how many submissions of one service wait to be taken in.
// It is for requests; what is published to the stream itself is bounded by the
// stream, for each operation type by itself.
type submissionLimit struct {
	most        uint64 // 0 is no bound
	submissions *submissions
	log         *slog.Logger
	warn        rate.Sometimes

	mu     sync.Mutex // guards what follows
	counts map[string]*counted
}

// counted is how many submissions of a service waited, and those added since.
type counted struct {
	at time.Time
	n  uint64
}

// admit returns a [*manyError] when a service has as many as it may, and counts one
// more otherwise.
func (l *submissionLimit) admit(ctx context.Context, service string) error {
	if l.most == 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.counts[service]
	if c == nil {
		if len(l.counts) >= maxCounted {
			clear(l.counts)
		}
		c = &counted{}
		l.counts[service] = c
	}
	if now := time.Now(); now.Sub(c.at) > countedFor {
		all, err := l.submissions.waiting(ctx, l.submissions.subjects.Submit(service, "*"))
		if err != nil {
			return err
		}
		c.at, c.n = now, all[service]
	}
	if c.n >= l.most {
		return l.refuse(service, fmt.Sprintf("service %s has %d submissions waiting to be taken in, and may have %d; try again later", service, c.n, l.most))
	}
	c.n++
	return nil
}

// stored turns the stream's refusal into one like that of admit.
func (l *submissionLimit) stored(service, operation string, err error) error {
	var api *jetstream.APIError
	if errors.As(err, &api) && api.Description == codeManyPerSubject {
		return l.refuse(service, fmt.Sprintf("as many submissions of %s as may wait are waiting to be taken in; try again later", events.Key(service, operation)))
	}
	return fmt.Errorf("storing the submission: %w", err)
}

func (l *submissionLimit) refuse(service, problem string) error {
	l.warn.Do(func() { l.log.Warn("submissions are refused", "service", service, "reason", problem) })
	return &manyError{problem}
}
