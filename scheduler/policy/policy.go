package policy

import (
	"strings"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/gate"
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

// TargetOf returns the subject to which an operation goes: the one that it asks
// for, else the policy's.
func (p *Policy) TargetOf(asked, service, operation string) string {
	if asked != "" {
		return asked
	}
	if !strings.Contains(p.Target, "{") {
		return p.Target
	}
	return strings.NewReplacer("{service}", service, "{operation}", operation).Replace(p.Target)
}

// defaultTarget is the built-in target, which a file that only names targets does
// not mean.
const defaultTarget = "{service}.{operation}"

// HasDefaultTarget reports whether p names no target of its own.
func (p *Policy) HasDefaultTarget() bool { return p.Target == defaultTarget }

// Allows reports whether subject is among the targets that the policy allows.
func (p *Policy) Allows(subject string) bool {
	return len(p.Targets) == 0 || Matches(p.Targets, subject)
}

// Matches reports whether subject, which has no wildcard, matches one of the NATS
// subject patterns.
func Matches(patterns []string, subject string) bool {
	tokens := strings.Split(subject, ".")
	for _, pattern := range patterns {
		if matchesPattern(strings.Split(pattern, "."), tokens) {
			return true
		}
	}
	return false
}

// matchesPattern matches tokens of a subject against those of a NATS pattern.
func matchesPattern(pattern, tokens []string) bool {
	for i, p := range pattern {
		switch {
		case p == ">":
			return len(tokens) > i
		case i >= len(tokens), p != "*" && p != tokens[i]:
			return false
		}
	}
	return len(pattern) == len(tokens)
}

// Gate returns the gate's part of p.
func (p *Policy) Gate() gate.Settings {
	return gate.Settings{
		MaxConcurrent: p.MaxConcurrentRetries,
		PerMinute:     p.RetryBudgetPerMinute, PerHour: p.RetryBudgetPerHour,
		RespectBackpressure: p.RespectGlobalBackpressure,
	}
}

// BreakerSettings are the policy's part for the breaker of its key.
func (p *Policy) BreakerSettings() breaker.Settings {
	return breaker.Settings{
		Threshold: p.CircuitBreakerThreshold, Timeout: p.CircuitBreakerTimeout,
		FailureRate: p.CircuitBreakerFailureRate, Window: p.CircuitBreakerWindow,
		MinimumCalls:        p.CircuitBreakerMinimumCalls,
		HalfOpenMaxRequests: p.HalfOpenMaxRequests, HalfOpenSuccesses: p.HalfOpenSuccesses,
		ProbeLease: p.AttemptTimeout + ProbeSlack,
	}
}

// ProbeSlack is what an attempt may take beyond its timeout: the wait for a late
// reply and for the conclusion to be told.
const ProbeSlack = 2 * time.Second
