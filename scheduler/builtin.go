package scheduler

import (
	"time"

	"github.com/rebound-mq/rebound/events"
)

// fallback is the policy of what no other covers.
func fallback() Policy {
	return Policy{
		MaxAttempts: 5, BaseDelay: time.Second, MaxDelay: 5 * time.Minute, Multiplier: 2,
		BackoffStrategy: Exponential, JitterType: FullJitter, AttemptTimeout: 10 * time.Second,
		SuccessRateThreshold: 0.7, AdaptationFactor: 0.5, LearningWindow: 10,
		CircuitBreakerThreshold: 5, CircuitBreakerTimeout: time.Minute, CircuitBreakerWindow: time.Minute, CircuitBreakerMinimumCalls: 20,
		HalfOpenMaxRequests: 3, HalfOpenSuccesses: 3, RespectGlobalBackpressure: true,
		Priority: events.Normal, Target: "{service}.{operation}",
	}
}

// builtin is the policy file that is always there: the original design's
// DEFAULT_RETRY_CONFIGS as they stand, and two services that it names without
// values. Analytics can wait: its data is wanted whole rather than soon, so it
// is tried long and yields to the rest. Content safety stands in the way of a
// user, so it is tried soon and gives up early enough to be decided otherwise.
const builtin = `
session_manager:
  maxAttempts: 3
  baseDelay: 1000
  maxDelay: 30000
  backoffStrategy: exponential
  jitterType: full
  enableAdaptiveBackoff: true
  enableCircuitBreaker: true
  circuitBreakerThreshold: 5
  circuitBreakerTimeout: 60000
connection_pool:
  maxAttempts: 5
  baseDelay: 500
  maxDelay: 10000
  backoffStrategy: adaptive
  jitterType: equal
  enableResourceAwareRetry: true
  maxConcurrentRetries: 20
  retryBudgetPerMinute: 200
campaign_orchestrator:
  maxAttempts: 3
  baseDelay: 2000
  maxDelay: 60000
  backoffStrategy: exponential
  jitterType: decorrelated
  respectGlobalBackpressure: false
  enableCircuitBreaker: true
analytics:
  maxAttempts: 8
  baseDelay: 5s
  maxDelay: 10m
  priority: low
content_safety:
  maxAttempts: 4
  baseDelay: 500ms
  maxDelay: 5s
  jitterType: equal
  priority: high
`

// Builtin returns the built-in policies.
func Builtin() *Set {
	set, err := parse(newSet(), "built-in", []byte(builtin))
	if err != nil {
		panic(err) // the file is a constant, and a test reads it
	}
	return set
}
