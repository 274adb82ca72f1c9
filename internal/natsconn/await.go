package natsconn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/backoff"
)

const (
	// logAgain is how often a wait is logged again.
	logAgain = 10 * time.Second
	// awaitPause is the mean pause between two tries.
	awaitPause = 500 * time.Millisecond
	// deniedEvery is how often a call is checked for a permission that the server denies.
	deniedEvery = 20 * time.Millisecond
)

// Waiter waits out, at the start, what a server cannot do yet, such as serve a stream
// without a leader. It is for one goroutine.
type Waiter struct {
	// conns are the connections in use, on which a server reports violations of
	// permissions.
	conns   []*nats.Conn
	log     *slog.Logger
	waiting func(reason string)
	// callTimeout bounds one call; it is [checkTimeout] except in a test.
	callTimeout time.Duration
}

// NewWaiter returns a waiter for calls over a connection. It calls waiting, which may be
// nil, with what it waits for, and with an empty reason when that is over.
func NewWaiter(nc *nats.Conn, waiting func(reason string), log *slog.Logger) *Waiter {
	if waiting == nil {
		waiting = func(string) {}
	}
	return &Waiter{conns: []*nats.Conn{nc}, log: log, waiting: waiting, callTimeout: checkTimeout}
}

// Await calls do until it succeeds, fails for a reason that does not pass by itself, or ctx
// ends. It logs what it waits for at the first failure, and then every ten seconds.
func (w *Waiter) Await(ctx context.Context, doing string, do func(context.Context) error) error {
	var logged time.Time
	began := time.Now()
	retry := backoff.Backoff{First: awaitPause, Longest: awaitPause}
	for {
		err := w.call(ctx, do)
		switch {
		case err == nil:
			if !logged.IsZero() {
				w.log.Info("the wait at the start is over", "waited for", doing, "for", time.Since(began).Round(time.Millisecond))
				w.waiting("")
			}
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("%s: %w", doing, context.Cause(ctx))
		case !Passes(err):
			return err
		}
		if time.Since(logged) >= logAgain {
			logged = time.Now()
			w.log.Warn("waiting at the start; it goes on by itself", "waiting for", doing, "for", time.Since(began).Round(time.Millisecond), "error", unanswered(err))
		}
		w.waiting(fmt.Sprintf("waiting at the start for %s: %v", doing, unanswered(err)))
		retry.Wait(ctx)
	}
}

// unanswered explains why JetStream does not answer a user with permission.
func unanswered(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("JetStream does not answer, as while a cluster or a stream has no leader")
	}
	return err
}

// PermissionError says that a user may not do what Rebound must.
type PermissionError struct{ Err error }

// Error implements error.
func (e *PermissionError) Error() string {
	return fmt.Sprintf("this NATS user lacks a permission: %s; `rebound doctor` lists all that are needed",
		strings.TrimPrefix(e.Err.Error(), "nats: "))
}

// Unwrap returns what the server said.
func (e *PermissionError) Unwrap() error { return e.Err }

// call calls do once, and cancels it when the server reports that the user lacks the
// permission: the answer would never come.
func (w *Waiter) call(ctx context.Context, do func(context.Context) error) error {
	before := w.errors()
	ctx, cancel := context.WithTimeout(ctx, w.callTimeout)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- do(ctx) }()
	ticker := time.NewTicker(deniedEvery)
	defer ticker.Stop()
	for {
		select {
		case err := <-done:
			if denied := w.denied(before); err != nil && denied != nil {
				return &PermissionError{denied}
			}
			return err
		case <-ticker.C:
			if w.denied(before) != nil {
				cancel()
			}
		}
	}
}

func (w *Waiter) errors() []error {
	last := make([]error, len(w.conns))
	for i, nc := range w.conns {
		last[i] = nc.LastError()
	}
	return last
}

// denied returns a violation of a permission that the server has reported since then, nil
// if there is none.
func (w *Waiter) denied(before []error) error {
	for i, err := range w.errors() {
		if errors.Is(err, nats.ErrPermissionViolation) && err != before[i] { //nolint:errorlint // a later violation is another value
			return err
		}
	}
	return nil
}

// Passes reports whether an error of JetStream may pass by itself: a server or a
// leader that is away, or resources that are short.
func Passes(err error) bool {
	var denied *PermissionError
	var api *jetstream.APIError
	var older *nats.APIError // a bucket is watched by the client's older API
	switch {
	case errors.As(err, &denied):
		return false
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return false
	case errors.As(err, &api):
		return codePasses(api.Code, api.ErrorCode)
	case errors.As(err, &older):
		return codePasses(older.Code, jetstream.ErrorCode(older.ErrorCode))
	}
	for _, passes := range []error{
		context.DeadlineExceeded, nats.ErrTimeout, nats.ErrNoResponders, jetstream.ErrNoStreamResponse, nats.ErrNoServers,
		nats.ErrDisconnected, nats.ErrConnectionReconnecting, nats.ErrReconnectBufExceeded,
	} {
		if errors.Is(err, passes) {
			return true
		}
	}
	return false
}

func codePasses(class int, code jetstream.ErrorCode) bool {
	return class == 503 && !slices.Contains(lasting, code) || slices.Contains(passing, code)
}

// The codes of JetStream that deviate from their class, from nats-server's errors.json.
var (
	lasting = []jetstream.ErrorCode{10010, 10035, 10036, 10039, 10063, 10076}
	passing = []jetstream.ErrorCode{
		10005,        // no suitable peers for placement, as while servers of a cluster are away
		10007, 10009, // a cluster that is not settled
		10014, 10059, // a consumer or a stream just made, which the server that answers has not seen yet
		10028, 10047, // memory or storage is short
		10041,        // raft
		10118, 10119, // a stream or consumer is offline
	}
)
