package client

import (
	"errors"
	"fmt"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/deadletter"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// The errors of [Execute], to be matched with [errors.Is]. [errors.As] with the type named beside
// each gives the details.
var (
	// ErrRateLimited: a limit of the policy allows no retry, see [RateLimitedError].
	ErrRateLimited = errors.New("client: rate limited")
	// ErrBreakerOpen: the breaker allows no attempt, see [BreakerOpenError].
	ErrBreakerOpen = errors.New("client: unavailable")
	// ErrPaused: an operator has paused the key, see [PausedError].
	ErrPaused = errors.New("client: paused")
	// ErrExhausted: no attempt is left, see [ExhaustedError].
	ErrExhausted = errors.New("client: exhausted")
	// ErrNotRetryable: every further attempt would fail as well, see [NotRetryableError].
	ErrNotRetryable = errors.New("client: not retryable")
	// ErrHandedOver: the operation continues in the service, see [HandedOverError].
	ErrHandedOver = errors.New("client: handed over")
)

var (
	// ErrNotConnected means that the call needs [Config.Conn].
	ErrNotConnected = errors.New("client: not connected to NATS")
	// ErrNoStream means that the stream to write or read does not exist: no service has ever run
	// on this server or account, or it uses another prefix.
	ErrNoStream = errors.New("client: Rebound has no streams here")
	// ErrNotFound means that there is no such dead letter, or that it is gone.
	ErrNotFound = deadletter.ErrNotFound
	// ErrAttemptOver is the cause of a [StreamWorker] handler's context when the service has
	// given up on the attempt: the worker was silent for too long, or the operation ended. What
	// the handler returns afterwards has no effect.
	ErrAttemptOver = errors.New("client: the attempt is over")
	// ErrClosed means that the client was closed.
	ErrClosed = errors.New("client: closed")
)

// FailedCall holds what the errors of [Execute] have in common. All of them unwrap to Last.
type FailedCall struct {
	// Key is the operation's key, service:operation.
	Key string
	// Attempts is the number of attempts made; 0 if the function was never called.
	Attempts int
	// Last is the error of the last attempt, a [*PanicError] if it panicked; nil if no attempt
	// was made.
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

// unwrap returns others and Last.
func (e *FailedCall) unwrap(others ...error) []error {
	if e.Last != nil {
		others = append(others, e.Last)
	}
	return others
}

// RateLimitedError means that a limit of the policy allows no retry. The original design calls
// this a blocked retry coordination.
type RateLimitedError struct {
	FailedCall
	// Limit is the policy key that sets the limit: retryBudgetPerMinute, retryBudgetPerHour,
	// maxConcurrentRetries, or respectGlobalBackpressure while global backpressure is on.
	Limit string
	// RetryAt is the earliest time at which a retry will be allowed; zero if unknown, as that of a
	// budget is that the service shares.
	RetryAt time.Time
}

// Error implements error.
func (e *RateLimitedError) Error() string {
	return fmt.Sprintf("%s is rate limited by %s, %s", e.Key, e.Limit, e.after())
}

// Unwrap returns [ErrRateLimited] and the last error.
func (e *RateLimitedError) Unwrap() []error { return e.unwrap(ErrRateLimited) }

// BreakerOpenError means that the breaker of the key allows no attempt.
type BreakerOpenError struct {
	FailedCall
	// RetryAt is when the breaker allows an attempt again; zero if unknown because an operator
	// holds the breaker or probes are in flight.
	RetryAt time.Time
	// Breaker is [breaker.ErrOpen] or [breaker.ErrProbing].
	//
	// [breaker.ErrOpen]: https://pkg.go.dev/github.com/rebound-mq/rebound/breaker#pkg-variables
	// [breaker.ErrProbing]: https://pkg.go.dev/github.com/rebound-mq/rebound/breaker#pkg-variables
	Breaker error
}

// Error implements error.
func (e *BreakerOpenError) Error() string {
	return fmt.Sprintf("%s is unavailable because its breaker allows no attempt, %s", e.Key, e.after())
}

// Unwrap returns [ErrBreakerOpen], Breaker and the last error.
func (e *BreakerOpenError) Unwrap() []error { return e.unwrap(ErrBreakerOpen, e.Breaker) }

// PausedError means that an operator has paused the key, with rebound pause or [Client.Pause].
type PausedError struct {
	FailedCall
	// Until is when the pause ends by itself; zero if it does not.
	Until time.Time
}

// Error implements error.
func (e *PausedError) Error() string { return fmt.Sprintf("%s is paused, %s", e.Key, e.after()) }

// Unwrap returns [ErrPaused] and the last error.
func (e *PausedError) Unwrap() []error { return e.unwrap(ErrPaused) }

// ExhaustedError means that no attempt is left.
type ExhaustedError struct {
	FailedCall
	// Reason is [events.ReasonExhausted], [events.ReasonMaxElapsed], or [events.ReasonDeadline]
	// if no further attempt can end before the context's deadline.
	Reason events.Reason
	// Detail explains the reason in a sentence.
	Detail string
}

// Error implements error.
func (e *ExhaustedError) Error() string {
	return fmt.Sprintf("%s is exhausted, %s, %s", e.Key, e.Detail, e.after())
}

// Unwrap returns [ErrExhausted] and the last error.
func (e *ExhaustedError) Unwrap() []error { return e.unwrap(ErrExhausted) }

// NotRetryableError means that every further attempt would fail like the last.
type NotRetryableError struct {
	FailedCall
	// Rule is the classification rule that decided, from the policy or the built-in table; see
	// [policy.Policy.Classify].
	Rule string
}

// Error implements error.
func (e *NotRetryableError) Error() string {
	return fmt.Sprintf("%s is not retryable by rule %s, %s", e.Key, e.Rule, e.after())
}

// Unwrap returns [ErrNotRetryable] and the last error.
func (e *NotRetryableError) Unwrap() []error { return e.unwrap(ErrNotRetryable) }

// CancelledError means that the context of [Execute] ended before an attempt, during one or
// during a delay.
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

// HandedOverError means that no attempt is left here and that the operation continues in the
// service, see [WithHandOver]. An outcome will report its end.
type HandedOverError struct {
	FailedCall
	// Receipt has the id under which the operation continues.
	Receipt Receipt
	// Cause is the error that [Execute] would have returned without the handover.
	Cause error
}

// Error implements error.
func (e *HandedOverError) Error() string {
	return fmt.Sprintf("operation %s goes on in the service: %v", e.Receipt.ID, e.Cause)
}

// Unwrap returns [ErrHandedOver] and Cause, which unwraps to the last error.
func (e *HandedOverError) Unwrap() []error { return []error{ErrHandedOver, e.Cause} }

// Error is a failure that names its own classification. Functions given to [Execute] and handlers
// of a worker return one to set the code, or to ask for a time without attempts. It is optional:
// errors of NATS, the network, gRPC and HTTP clients are recognised as they are, see the package
// overview.
type Error struct {
	// Code is an HTTP status such as 503, a gRPC name such as UNAVAILABLE, or one of the original
	// design's error types such as RATE_LIMIT_EXCEEDED; see [policy.Policy.Classify].
	Code string
	// Message is the error's text, followed by Err's if there is one; Err's alone when empty.
	Message string
	// RetryAfter is for how long no attempt should be made; 0 leaves it to the policy.
	RetryAfter time.Duration
	// Err is the wrapped error; it may be nil.
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

// NotRetryable marks err as one that every further attempt would meet as well, whatever its own
// code. It returns nil for nil.
func NotRetryable(err error) error {
	if err == nil {
		return nil
	}
	return &Error{Code: policy.RuleInvalid, Err: err}
}

// RetryAfter wraps err to ask that the next attempt be made no sooner than after d, even if the
// policy's delay is shorter. It returns nil for nil.
func RetryAfter(err error, d time.Duration) error {
	if err == nil {
		return nil
	}
	return &Error{RetryAfter: d, Err: err}
}
