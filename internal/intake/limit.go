package intake

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
	// fullSubject is JetStream's error for a subject that holds as many messages as it may.
	fullSubject = "maximum messages per subject exceeded"
	// countedFor is how long a count of the submissions of a service is used.
	countedFor = 250 * time.Millisecond
	// maxCounted is how many services' counts are remembered.
	maxCounted = 1000
	// warnRefused is how often refused submissions are logged.
	warnRefused = time.Minute
)

// TooManyError says that a service has as many submissions waiting as it may.
type TooManyError struct{ problem string }

// Error implements error.
func (e *TooManyError) Error() string { return e.problem }

// Limit bounds how many submissions of one service wait to be taken in. It applies to
// requests; the stream itself bounds what is published to it, for each operation type. It
// is safe for concurrent use.
type Limit struct {
	most        uint64 // 0 is no bound
	submissions *Submissions
	log         *slog.Logger
	warn        rate.Sometimes

	mu     sync.Mutex // guards the fields below
	counts map[string]*count
}

// count is how many submissions of a service waited at a time, and how many were added
// since.
type count struct {
	at time.Time
	n  uint64
}

// NewLimit returns a limit of that many submissions for each service; 0 is no bound.
func NewLimit(most uint64, submissions *Submissions, log *slog.Logger) *Limit {
	return &Limit{
		most: most, submissions: submissions, log: log,
		warn: rate.Sometimes{First: 1, Interval: warnRefused}, counts: make(map[string]*count),
	}
}

// Most returns the bound, 0 for none.
func (l *Limit) Most() uint64 { return l.most }

// Admit counts one more submission of a service, or returns a [*TooManyError] if it has as
// many as it may.
func (l *Limit) Admit(ctx context.Context, service string) error {
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
		c = &count{}
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

// StoreError wraps the error of storing a submission; it returns a [*TooManyError] if the
// stream holds as many of the operation type as it may.
func (l *Limit) StoreError(service, operation string, err error) error {
	var api *jetstream.APIError
	if errors.As(err, &api) && api.Description == fullSubject {
		return l.refuse(service, fmt.Sprintf("as many submissions of %s as may wait are waiting to be taken in; try again later", events.Key(service, operation)))
	}
	return fmt.Errorf("storing the submission: %w", err)
}

func (l *Limit) refuse(service, problem string) error {
	l.warn.Do(func() { l.log.Warn("submissions are refused", "service", service, "reason", problem) })
	return &TooManyError{problem}
}
