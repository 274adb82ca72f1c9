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
// The fields are named after the keys of policy files, which begin with a lower-case
// letter; [Keys] lists these and their possible values.
type Policy struct {
	// MaxAttempts is how often an operation is tried at most, from 1. It counts
	// attempt 1, the one that failed before Rebound heard of the operation.
	MaxAttempts int
	// BaseDelay is the delay after attempt 1, before factors and jitter.
	BaseDelay time.Duration
	// MaxDelay caps every delay. Only a Retry-After of the target exceeds it.
	MaxDelay time.Duration
	// Multiplier is the factor by which the exponential delay grows with each
	// attempt, from 1 to 100.
	Multiplier float64
	// BackoffStrategy is how the delay grows with the attempts.
	BackoffStrategy Strategy
	// JitterType is how the delay is randomised.
	JitterType Jitter
	// AttemptTimeout is how long one attempt may take.
	AttemptTimeout time.Duration
	// MaxElapsedTime is how long after its first failure an operation may still
	// be tried. If it is over while the operation is paused, it counts anew from the
	// end of the pause. 0 means no limit.
	MaxElapsedTime time.Duration
	// NoResponders is what happens to an operation on whose target nobody listens.
	NoResponders NoResponders

	// EnableAdaptiveBackoff applies the adaptive factors to a strategy other
	// than [Adaptive], which always applies them.
	EnableAdaptiveBackoff bool
	// SuccessRateThreshold is the success rate, 0 to 1, below which delays grow.
	SuccessRateThreshold float64
	// AdaptationFactor is the share by which a success rate of 0 lengthens a delay,
	// from 0 to 10: 0.5 lengthens it by half.
	AdaptationFactor float64
	// LearningWindow is how many of the last operations the success rate is taken
	// over, 1 to 100.
	LearningWindow int

	// EnableCircuitBreaker gives the key a circuit breaker.
	EnableCircuitBreaker bool
	// CircuitBreakerThreshold is how many failures in a row open the breaker.
	CircuitBreakerThreshold int
	// CircuitBreakerTimeout is how long the breaker stays open before it lets
	// probes through.
	CircuitBreakerTimeout time.Duration
	// CircuitBreakerFailureRate is the share of failures within
	// CircuitBreakerWindow, 0 to 1, that opens the breaker. 0 ignores the rate.
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

	// EnableResourceAwareRetry lets CPU, memory, pool utilisation, queue length
	// and load lengthen adaptive delays.
	EnableResourceAwareRetry bool
	// MaxConcurrentRetries is how many operations of the key may be in flight at
	// once, over all instances. 0 means no limit.
	MaxConcurrentRetries int
	// RetryBudgetPerMinute is how many redeliveries of the key may be made in a
	// minute. 0 means no limit.
	RetryBudgetPerMinute int
	// RetryBudgetPerHour is how many redeliveries of the key may be made in an
	// hour. 0 means no limit.
	RetryBudgetPerHour int
	// RespectGlobalBackpressure slows a failing key to a trickle while backpressure is on.
	RespectGlobalBackpressure bool

	// Priority is the priority of operations that name none.
	Priority events.Priority
	// Delivery is how operations that do not say it reach their target.
	Delivery events.Delivery
	// Target is the subject for operations that name none. It may contain {service}
	// and {operation}; [Policy.TargetOf] fills them in.
	Target string
	// Targets are NATS subject patterns; a target must match one of them. Empty
	// allows any subject that is not generally forbidden.
	Targets []string
	// DependsOn names the services, or keys as service:operation, without which
	// this policy's operations cannot succeed.
	DependsOn []string
	// Rules classify failures before the built-in tables do. The first rule that
	// matches decides.
	Rules []Rule
}

// NoResponders is what happens to an operation on whose target nobody listens.
type NoResponders uint8

const (
	// AwaitResponders holds the operation until somebody listens. Nothing is counted,
	// because nobody was reached.
	AwaitResponders NoResponders = iota
	// FailWithoutResponders makes it a failed attempt.
	FailWithoutResponders
)

var noRespondersWords = [...]string{AwaitResponders: "wait", FailWithoutResponders: "fail"}

// String returns the word for r in policy files.
func (r NoResponders) String() string { return word(noRespondersWords[:], int(r)) }

// MarshalText implements [encoding.TextMarshaler].
func (r NoResponders) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler] with the words wait and fail.
func (r *NoResponders) UnmarshalText(b []byte) error {
	i, err := parseWord(noRespondersWords[:], string(b), "wait or fail")
	*r = NoResponders(i)
	return err
}

// MustEndBy returns when op may not be tried any more, zero if the policy has no such time.
func (p *Policy) MustEndBy(op *events.Operation) time.Time {
	from := ElapsesFrom(op)
	if p.MaxElapsedTime <= 0 || from.IsZero() {
		return time.Time{}
	}
	return from.Add(p.MaxElapsedTime)
}

// ElapsesFrom returns from when MaxElapsedTime counts for op.
func ElapsesFrom(op *events.Operation) time.Time {
	if op.ElapsesFrom.After(op.FirstFailure) {
		return op.ElapsesFrom
	}
	return op.FirstFailure
}

// TargetOf returns the subject that an operation goes to: the one that it asks for,
// else the policy's.
func (p *Policy) TargetOf(asked, service, operation string) string {
	if asked != "" {
		return asked
	}
	if !strings.Contains(p.Target, "{") {
		return p.Target
	}
	return expand(p.Target, service, operation)
}

// The parts of a target that stand for the names of an operation.
const (
	servicePart   = "{service}"
	operationPart = "{operation}"
)

// expand returns a target with the names of an operation.
func expand(target, service, operation string) string {
	subject := make([]byte, 0, 256)
	for rest := target; rest != ""; {
		switch {
		case strings.HasPrefix(rest, servicePart):
			subject, rest = append(subject, service...), rest[len(servicePart):]
		case strings.HasPrefix(rest, operationPart):
			subject, rest = append(subject, operation...), rest[len(operationPart):]
		default:
			subject, rest = append(subject, rest[0]), rest[1:]
		}
	}
	return string(subject)
}

// defaultTarget is the built-in target. It need not match the targets that a file
// allows.
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
	for _, pattern := range patterns {
		if matchesPattern(pattern, subject) {
			return true
		}
	}
	return false
}

// matchesPattern matches a subject against a NATS pattern, token by token.
func matchesPattern(pattern, subject string) bool {
	for {
		p, patternRest, more := strings.Cut(pattern, ".")
		if p == ">" {
			return true
		}
		token, subjectRest, left := strings.Cut(subject, ".")
		if p != "*" && p != token || more != left {
			return false
		}
		if !more {
			return true
		}
		pattern, subject = patternRest, subjectRest
	}
}

// Gate returns the gate's part of p.
func (p *Policy) Gate() gate.Settings {
	s := gate.Settings{
		MaxConcurrent: p.MaxConcurrentRetries,
		PerMinute:     p.RetryBudgetPerMinute, PerHour: p.RetryBudgetPerHour,
	}
	if p.EnableCircuitBreaker {
		s.BreakerThreshold = p.CircuitBreakerThreshold
		if p.CircuitBreakerFailureRate > 0 {
			s.BreakerMinimumCalls = p.CircuitBreakerMinimumCalls
		}
	}
	return s
}

// BreakerSettings returns the breaker's part of p.
func (p *Policy) BreakerSettings() breaker.Settings {
	return breaker.Settings{
		Threshold: p.CircuitBreakerThreshold, Timeout: p.CircuitBreakerTimeout,
		FailureRate: p.CircuitBreakerFailureRate, Window: p.CircuitBreakerWindow,
		MinimumCalls:        p.CircuitBreakerMinimumCalls,
		HalfOpenMaxRequests: p.HalfOpenMaxRequests, HalfOpenSuccesses: p.HalfOpenSuccesses,
		ProbeLease: p.AttemptTimeout + ProbeSlack,
	}
}

// ProbeSlack is how much longer than its timeout an attempt may take, while a late
// reply is awaited and the conclusion reaches the breaker.
const ProbeSlack = 2 * time.Second
