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
)

const (
	// awaitTell is how often a wait is told of again.
	awaitTell = 10 * time.Second
	// awaitPause is how long is paused between two tries.
	awaitPause = 500 * time.Millisecond
	// deniedEvery is how often is checked, during a call, whether the server denied it.
	deniedEvery = 20 * time.Millisecond
)

// Waiter waits for what a server cannot do yet, such as a stream without a leader.
type Waiter struct {
	// Conns are the connections that are used, on which a server says what a user may
	// not do.
	Conns []*nats.Conn
	Log   *slog.Logger
	// Told is called with what is waited for, and empty when that is over; nil is
	// nobody.
	Told func(reason string)
}

// Await calls do until it succeeds, fails for what does not pass by itself, or ctx
// ends. What is being done is told at once when it fails, and then every ten seconds.
func (w *Waiter) Await(ctx context.Context, doing string, do func(context.Context) error) error {
	var told time.Time
	began := time.Now()
	for {
		err := w.call(ctx, do)
		switch {
		case err == nil:
			if !told.IsZero() {
				w.Log.Info("what was waited for at the start is there", "waited for", doing, "for", time.Since(began).Round(time.Millisecond))
				w.tell("")
			}
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("%s: %w", doing, context.Cause(ctx))
		case !Passes(err):
			return err
		}
		reason := fmt.Sprintf("waiting at the start for %s: %v", doing, unanswered(err))
		w.tell(reason)
		if time.Since(told) >= awaitTell {
			told = time.Now()
			w.Log.Warn("waiting at the start; it goes on by itself", "waiting for", doing, "for", time.Since(began).Round(time.Millisecond), "error", unanswered(err))
		}
		timer := time.NewTimer(awaitPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

func (w *Waiter) tell(reason string) {
	if w.Told != nil {
		w.Told(reason)
	}
}

// unanswered says what it means that JetStream does not answer a user who may ask.
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

// call calls do once, which ends at once when the server says that the user may not
// do it. Otherwise an answer would be waited for that never comes.
func (w *Waiter) call(ctx context.Context, do func(context.Context) error) error {
	before := w.errors()
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
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
	last := make([]error, len(w.Conns))
	for i, nc := range w.Conns {
		last[i] = nc.LastError()
	}
	return last
}

// denied returns the violation of a permission that the server told of since, nil
// when there is none.
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

// The codes of JetStream that say otherwise than their class, as nats-server's
// errors.json has them.
var (
	lasting = []jetstream.ErrorCode{10010, 10035, 10036, 10039, 10063, 10076}
	passing = []jetstream.ErrorCode{
		10005,        // no suitable peers for placement, as while servers of a cluster are away
		10007, 10009, // a cluster that is not settled
		10028, 10047, // memory or storage is short
		10041,        // raft
		10118, 10119, // a stream or consumer is offline
	}
)
