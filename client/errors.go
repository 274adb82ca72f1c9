package client

import (
	"errors"
	"fmt"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/deadletter"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// What [errors.Is] finds in the errors of [Execute]; [errors.As] finds more, by
// the types that are named with them.
var (
	// ErrRateLimited: a limit of the policy lets no retry through, see
	// [RateLimitedError].
	ErrRateLimited = errors.New("client: rate limited")
	// ErrBreakerOpen: the breaker lets no attempt through, see
	// [BreakerOpenError].
	ErrBreakerOpen = errors.New("client: unavailable")
	// ErrExhausted: there is no attempt left, see [ExhaustedError].
	ErrExhausted = errors.New("client: exhausted")
	// ErrNotRetryable: every other attempt would fail as well, see
	// [NotRetryableError].
	ErrNotRetryable = errors.New("client: not retryable")
	// ErrHandedOver: the operation goes on in the service, see
	// [HandedOverError].
	ErrHandedOver = errors.New("client: handed over")
)

var (
	// ErrNotConnected says that what was asked for needs [Config.Conn].
	ErrNotConnected = errors.New("client: not connected to NATS")
	// ErrNoStream says that no stream takes submissions or holds what was asked
	// for: no service has ever run there, or it works under another prefix.
	ErrNoStream = errors.New("client: Rebound has no streams here")
	// ErrNotFound says that there is no such dead letter, or that it is gone.
	ErrNotFound = deadletter.ErrNotFound
	// ErrAttemptOver is the cause of the context of a handler when its attempt has ended
	// without it: the worker was silent for too long, or the operation ended. What the
	// handler returns then has no effect.
	ErrAttemptOver = errors.New("client: the attempt is over")
	// ErrClosed says that the client was closed.
	ErrClosed = errors.New("client: closed")
)

// FailedCall is what the errors of [Execute] have in common. All of them unwrap to Last.
type FailedCall struct {
	// Key is the operation's, service:operation.
	Key string
	// Attempts is how many attempts were made. 0 is none: the function was not
	// called.
	Attempts int
	// Last is the error of the last attempt, a [*PanicError] when it panicked. It
	// is nil when no attempt was made.
	Last error
}

func (e *FailedCall) after() string {
	switch e.Attempts {
	case 0:
		return "before the first attempt"
	case 1:
		return "after 1 attempt: " + e.Last.Error()
	}
	return fmt.Sprintf("after %d attempts: %v", e.Attempts, e.Last)
}

// unwrap returns Last with what stands beside it.
func (e *FailedCall) unwrap(others ...error) []error {
	if e.Last != nil {
		others = append(others, e.Last)
	}
	return others
}

// RateLimitedError says that a limit of the policy lets no retry through, which
// the original design calls a blocked retry coordination.
type RateLimitedError struct {
	FailedCall
	// Limit is the policy key that sets the limit: retryBudgetPerMinute,
	// retryBudgetPerHour or maxConcurrentRetries.
	Limit string
	// RetryAt is the earliest time at which a retry will be let through; zero when that is
	// not known.
	RetryAt time.Time
}

// Error implements error.
func (e *RateLimitedError) Error() string {
	return fmt.Sprintf("%s is rate limited by %s %s", e.Key, e.Limit, e.after())
}

// Unwrap returns the last error.
func (e *RateLimitedError) Unwrap() []error { return e.unwrap(ErrRateLimited) }

// BreakerOpenError says that the breaker of the key lets no attempt through.
type BreakerOpenError struct {
	FailedCall
	// RetryAt is when the breaker lets an attempt through again; zero when that is not
	// known, because an operator holds the breaker or probes are in flight.
	RetryAt time.Time
	// Breaker is [breaker.ErrOpen] or [breaker.ErrProbing].
	//
	// [breaker.ErrOpen]: https://pkg.go.dev/github.com/rebound-mq/rebound/breaker#pkg-variables
	// [breaker.ErrProbing]: https://pkg.go.dev/github.com/rebound-mq/rebound/breaker#pkg-variables
	Breaker error
}

// Error implements error.
func (e *BreakerOpenError) Error() string {
	return fmt.Sprintf("%s is unavailable, its breaker lets no attempt through, %s", e.Key, e.after())
}

// Unwrap returns Breaker and the last error.
func (e *BreakerOpenError) Unwrap() []error { return e.unwrap(ErrBreakerOpen, e.Breaker) }

// ExhaustedError says that no attempt is left.
type ExhaustedError struct {
	FailedCall
	// Reason is why: [events.ReasonExhausted], [events.ReasonDeadline] when no
	// further attempt can end before the context's deadline, or
	// [events.ReasonMaxElapsed].
	Reason events.Reason
	// Detail says it in a sentence.
	Detail string
}

// Error implements error.
func (e *ExhaustedError) Error() string {
	return fmt.Sprintf("%s is exhausted, %s, %s", e.Key, e.Detail, e.after())
}

// Unwrap returns the last error.
func (e *ExhaustedError) Unwrap() []error { return e.unwrap(ErrExhausted) }

// NotRetryableError says that every other attempt would fail like the last.
type NotRetryableError struct {
	FailedCall
	// Rule is the classification rule that decided, one of the policy's or of the
	// built-in table; see [policy.Policy.Classify].
	Rule string
}

// Error implements error.
func (e *NotRetryableError) Error() string {
	return fmt.Sprintf("%s is not retryable by rule %s, %s", e.Key, e.Rule, e.after())
}

// Unwrap returns the last error.
func (e *NotRetryableError) Unwrap() []error { return e.unwrap(ErrNotRetryable) }

// CancelledError says that the context of [Execute] ended, before an attempt,
// during one or during a delay.
type CancelledError struct {
	FailedCall
	// Cause is the context's error, [context.Canceled] or
	// [context.DeadlineExceeded].
	Cause error
}

// Error implements error.
func (e *CancelledError) Error() string {
	return fmt.Sprintf("%s was cancelled, %v, %s", e.Key, e.Cause, e.after())
}

// Unwrap returns Cause and the last error.
func (e *CancelledError) Unwrap() []error { return e.unwrap(e.Cause) }

// HandedOverError says that no attempt is left here and that the operation goes
// on in the service, see [WithHandOver]. An outcome says how it ends.
type HandedOverError struct {
	FailedCall
	// Receipt says under which id the operation goes on.
	Receipt Receipt
	// Cause is the error with which [Execute] would have ended.
	Cause error
}

// Error implements error.
func (e *HandedOverError) Error() string {
	return fmt.Sprintf("operation %s goes on in the service: %v", e.Receipt.ID, e.Cause)
}

// Unwrap returns Why, which unwraps to the last error.
func (e *HandedOverError) Unwrap() []error { return []error{ErrHandedOver, e.Cause} }

// Error is a failure that says how it is to be classified. Functions given to
// [Execute] and handlers of a [Worker] return one to name the code, or to ask
// for a time without attempts. It is one way among others: errors of NATS, of the
// network, of gRPC and of HTTP clients are recognised as they are, see the
// package's overview.
type Error struct {
	// Code is an HTTP number such as 503, a gRPC name such as UNAVAILABLE, or one
	// of the original design's error types such as RATE_LIMIT_EXCEEDED; see
	// [policy.Policy.Classify].
	Code string
	// Message is the error's text. Without it the text is Err's.
	Message string
	// RetryAfter is how long no attempt is to be made. 0 asks for nothing.
	RetryAfter time.Duration
	// Err is the error beneath; it may be nil.
	Err error
}

// Error implements error.
func (e *Error) Error() string {
	switch {
	case e.Message != "" && e.Err != nil:
		return e.Message + ": " + e.Err.Error()
	case e.Message != "":
		return e.Message
	case e.Err != nil:
		return e.Err.Error()
	}
	return "error " + e.Code
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// NotRetryable marks err as one that every other attempt would meet as well,
// whatever its own code says. It returns nil for nil.
func NotRetryable(err error) error {
	if err == nil {
		return nil
	}
	return &Error{Code: policy.RuleInvalid, Err: err}
}

// RetryAfter asks that no attempt be made for d, whatever the policy's delay. It
// returns nil for nil.
func RetryAfter(err error, d time.Duration) error {
	if err == nil {
		return nil
	}
	return &Error{RetryAfter: d, Err: err}
}
