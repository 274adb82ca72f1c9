package policy

import (
	"time"

	"github.com/rebound-mq/rebound/events"
)

// Policy says how operations of a key are retried (the original design's
// ContextAwareRetryConfig). A [Set] resolves one for a [Query]. All methods are
// pure, change nothing, and are safe for concurrent use.
//
// The fields bear the names of the policy file's keys, whose first letter is
// lower case there; [Keys] lists them, and the values that a file may give them.
type Policy struct {
	// MaxAttempts is how often an operation is tried at most, from 1. It counts
	// attempt 1, the one that failed before Rebound heard of the operation.
	MaxAttempts int
	// BaseDelay is the delay after attempt 1, before factors and jitter.
	BaseDelay time.Duration
	// MaxDelay caps every delay. Only a Retry-After that the target itself named
	// goes beyond it.
	MaxDelay time.Duration
	// Multiplier is by how much the exponential delay grows with each attempt,
	// from 1 to 100.
	Multiplier float64
	// BackoffStrategy is how the delay grows with the attempts.
	BackoffStrategy Strategy
	// JitterType is how the delay is spread at random.
	JitterType Jitter
	// AttemptTimeout is how long one attempt may take.
	AttemptTimeout time.Duration
	// MaxElapsedTime is how long after its first failure an operation may still
	// be tried. 0 is without limit.
	MaxElapsedTime time.Duration

	// EnableAdaptiveBackoff applies the adaptive factors to a strategy other
	// than [Adaptive], which always applies them.
	EnableAdaptiveBackoff bool
	// SuccessRateThreshold is the success rate, 0 to 1, below which delays grow.
	SuccessRateThreshold float64
	// AdaptationFactor is by what share a success rate of 0 lengthens a delay:
	// 0.5 is by half. From 0 to 10.
	AdaptationFactor float64
	// LearningWindow is over how many of the last operations the success rate is
	// taken, 1 to 100.
	LearningWindow int

	// EnableCircuitBreaker gives the key a circuit breaker.
	EnableCircuitBreaker bool
	// CircuitBreakerThreshold is how many failures in a row open the breaker.
	CircuitBreakerThreshold int
	// CircuitBreakerTimeout is how long the breaker stays open before it lets
	// probes through.
	CircuitBreakerTimeout time.Duration
	// CircuitBreakerFailureRate is the share of failures within
	// CircuitBreakerWindow, 0 to 1, that opens the breaker. 0 leaves the rate out
	// of account.
	CircuitBreakerFailureRate float64
	// CircuitBreakerWindow is the time over which the failure rate is taken.
	CircuitBreakerWindow time.Duration
	// CircuitBreakerMinimumCalls is how many calls the window needs before its
	// failure rate counts.
	CircuitBreakerMinimumCalls int
	// HalfOpenMaxRequests is how many probes may be in flight at once while the
	// breaker is half open, over all instances.
	HalfOpenMaxRequests int
	// HalfOpenSuccesses is how many successes in a row close the breaker.
	HalfOpenSuccesses int

	// EnableResourceAwareRetry lets CPU, memory, pool utilisation and queue
	// length lengthen adaptive delays.
	EnableResourceAwareRetry bool
	// MaxConcurrentRetries is how many operations of the key may be in flight at
	// once, over all instances. 0 is without limit.
	MaxConcurrentRetries int
	// RetryBudgetPerMinute is how many redeliveries of the key are made in a
	// minute at most. 0 is without limit.
	RetryBudgetPerMinute int
	// RetryBudgetPerHour is how many redeliveries of the key are made in an hour
	// at most. 0 is without limit.
	RetryBudgetPerHour int
	// RespectGlobalBackpressure holds operations while backpressure is on. A
	// policy without it passes.
	RespectGlobalBackpressure bool

	// Priority is the priority of operations that name none.
	Priority events.Priority
	// Target is the subject to which operations go that name none. It may hold
	// {service} and {operation}; [Policy.TargetOf] fills them in.
	Target string
	// Targets are the NATS subject patterns of which a target must match one.
	// Empty allows any subject that is not forbidden to all.
	Targets []string
	// DependsOn names the services, or keys as service:operation, that this
	// policy's operations cannot do without.
	DependsOn []string
	// Rules classify failures before the built-in tables do. The first rule that
	// matches decides.
	Rules []Rule
}

// Rule classifies the failures that it matches. A rule matches when every
// condition that it states holds; it states at least one of Codes and Message.
type Rule struct {
	// Name identifies the rule in decisions and events.
	Name string
	// Service restricts the rule to one service. Empty is any.
	Service string
	// Codes are the failure codes that match, compared like those of the
	// built-in table: letter case, underscores, hyphens and spaces do not count.
	// Empty is any.
	Codes []string
	// Message is a text that the failure's message must contain, letter case
	// aside; a * stands for any text. Empty is any. Only the first
	// [events.MaxError] bytes of a message are looked at.
	Message string
	// Class is what the rule decides.
	Class Class
	// Limit is how often the rule may decide [Retryable] for one operation; after
	// that it decides [NotRetryable]. 0 is without limit.
	Limit int

	origin  Origin
	codes   []string // Codes, normalised
	message []string // the pieces of Message between its stars, lower case
}

// Strategy is how the delay grows with the attempts. Its words in policy files
// and attributes are fixed, linear, exponential and adaptive.
type Strategy uint8

const (
	// Exponential is base × multiplier^(attempt−1).
	Exponential Strategy = iota
	// Fixed is the base delay after every attempt.
	Fixed
	// Linear is base × attempt.
	Linear
	// Adaptive is the exponential delay times the adaptive [Factors].
	Adaptive
)

// Jitter is how a delay d is spread at random. Its words in policy files and
// attributes are none, full, equal and decorrelated. The formulas are those of
// Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
type Jitter uint8

const (
	// NoJitter leaves d as it is.
	NoJitter Jitter = iota
	// FullJitter is random(0, d).
	FullJitter
	// EqualJitter is d/2 + random(0, d/2).
	EqualJitter
	// DecorrelatedJitter is random(base, previous × 3), capped; it takes the
	// place of the strategy's own growth.
	DecorrelatedJitter
)
