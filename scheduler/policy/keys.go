package policy

import (
	"encoding"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/spelling"
)

// Key describes a key of a policy file.
type Key struct {
	// Name is the key as policy files write it.
	Name string
	// Values says what it may be set to.
	Values string
	// Meaning says what it does, in a sentence without a full stop.
	Meaning string
	// Shared is whether the value concerns all operations of a service and operation
	// type together, as that of a breaker or a budget does. It cannot differ by
	// account or campaign then.
	Shared bool
	// Overridable is whether an operation may override the value; see
	// [Policy.Override].
	Overridable bool
}

// Keys returns every key that sets a field of a [Policy], in display order.
func Keys() []Key {
	list := make([]Key, len(keys))
	for i := range keys {
		list[i] = keys[i].Key
	}
	return list
}

// key is a [Key] together with the field that it sets.
type key struct {
	Key
	// read reads a scalar; it is nil for keys that are lists.
	read func(p *Policy, text string) *issue
	// text returns the value as policy files write it.
	text func(p *Policy) string
}

// The indices in keys.
const (
	keyMaxAttempts = iota
	keyBaseDelay
	keyMaxDelay
	keyMultiplier
	keyBackoffStrategy
	keyJitterType
	keyAttemptTimeout
	keyMaxElapsedTime
	keyNoResponders
	keyEnableAdaptiveBackoff
	keySuccessRateThreshold
	keyAdaptationFactor
	keyLearningWindow
	keyEnableCircuitBreaker
	keyCircuitBreakerThreshold
	keyCircuitBreakerTimeout
	keyCircuitBreakerFailureRate
	keyCircuitBreakerWindow
	keyCircuitBreakerMinimumCalls
	keyHalfOpenMaxRequests
	keyHalfOpenSuccesses
	keyEnableResourceAwareRetry
	keyMaxConcurrentRetries
	keyRetryBudgetPerMinute
	keyRetryBudgetPerHour
	keyRespectGlobalBackpressure
	keyPriority
	keyDelivery
	keyTarget
	keyTargets
	keyDependsOn
	keyRules
)

// Bounds of what a policy may say.
const (
	// maxDuration bounds every duration of a policy.
	maxDuration = 365 * 24 * time.Hour
	// maxMultiplier and maxAdaptation bound the growth of a delay.
	maxMultiplier, maxAdaptation = 100, 10
	// maxWindow is how many operations of a service are remembered.
	maxWindow = 100
	maxCount  = math.MaxInt32
)

var keys = [...]key{
	keyMaxAttempts:     own(whole("maxAttempts", 1, maxCount, "how often an operation is tried at most, the attempt that failed before its submission included", func(p *Policy) *int { return &p.MaxAttempts })),
	keyBaseDelay:       own(span("baseDelay", 0, "the delay after attempt 1, before factors and jitter", func(p *Policy) *time.Duration { return &p.BaseDelay })),
	keyMaxDelay:        own(span("maxDelay", 0, "the longest delay, save a Retry-After that the target named", func(p *Policy) *time.Duration { return &p.MaxDelay })),
	keyMultiplier:      own(number("multiplier", 1, maxMultiplier, "by how much the exponential delay grows with each attempt", func(p *Policy) *float64 { return &p.Multiplier })),
	keyBackoffStrategy: own(choice("backoffStrategy", strategyWords[:], "how the delay grows with the attempts", func(p *Policy) wording { return &p.BackoffStrategy })),
	keyJitterType:      own(choice("jitterType", jitterWords[:], "how the delay is spread at random", func(p *Policy) wording { return &p.JitterType })),
	keyAttemptTimeout:  own(span("attemptTimeout", 1, "how long one attempt may take", func(p *Policy) *time.Duration { return &p.AttemptTimeout })),
	keyMaxElapsedTime:  own(span("maxElapsedTime", 0, "how long after its first failure an operation may still be tried, anew after a pause during which it was over; 0 is without limit", func(p *Policy) *time.Duration { return &p.MaxElapsedTime })),
	keyNoResponders:    choice("noResponders", noRespondersWords[:], "whether an operation waits while nobody listens on its target, or its attempt fails", func(p *Policy) wording { return &p.NoResponders }),

	keyEnableAdaptiveBackoff: own(truth("enableAdaptiveBackoff", "whether the adaptive factors apply to a strategy other than adaptive too", func(p *Policy) *bool { return &p.EnableAdaptiveBackoff })),
	keySuccessRateThreshold:  own(number("successRateThreshold", 0, 1, "the success rate below which delays grow", func(p *Policy) *float64 { return &p.SuccessRateThreshold })),
	keyAdaptationFactor:      own(number("adaptationFactor", 0, maxAdaptation, "by what share a success rate of 0 lengthens a delay", func(p *Policy) *float64 { return &p.AdaptationFactor })),
	keyLearningWindow:        own(whole("learningWindow", 1, maxWindow, "over how many of the last operations the success rate is taken", func(p *Policy) *int { return &p.LearningWindow })),

	keyEnableCircuitBreaker:       shared(truth("enableCircuitBreaker", "whether the key has a circuit breaker", func(p *Policy) *bool { return &p.EnableCircuitBreaker })),
	keyCircuitBreakerThreshold:    shared(whole("circuitBreakerThreshold", 1, maxCount, "how many failures in a row open the breaker", func(p *Policy) *int { return &p.CircuitBreakerThreshold })),
	keyCircuitBreakerTimeout:      shared(span("circuitBreakerTimeout", 1, "how long the breaker stays open before it lets probes through", func(p *Policy) *time.Duration { return &p.CircuitBreakerTimeout })),
	keyCircuitBreakerFailureRate:  shared(number("circuitBreakerFailureRate", 0, 1, "the share of failures in the window that opens the breaker; 0 leaves it out of account", func(p *Policy) *float64 { return &p.CircuitBreakerFailureRate })),
	keyCircuitBreakerWindow:       shared(span("circuitBreakerWindow", 1, "over what time the failure rate is taken", func(p *Policy) *time.Duration { return &p.CircuitBreakerWindow })),
	keyCircuitBreakerMinimumCalls: shared(whole("circuitBreakerMinimumCalls", 1, maxCount, "how many calls the window needs before its failure rate counts", func(p *Policy) *int { return &p.CircuitBreakerMinimumCalls })),
	keyHalfOpenMaxRequests:        shared(whole("halfOpenMaxRequests", 1, maxCount, "how many probes of a half-open breaker may be in flight at once, over all instances", func(p *Policy) *int { return &p.HalfOpenMaxRequests })),
	keyHalfOpenSuccesses:          shared(whole("halfOpenSuccesses", 1, maxCount, "how many successes in a row close the breaker", func(p *Policy) *int { return &p.HalfOpenSuccesses })),

	keyEnableResourceAwareRetry:  own(truth("enableResourceAwareRetry", "whether CPU, memory, pool use, queue length and load lengthen adaptive delays", func(p *Policy) *bool { return &p.EnableResourceAwareRetry })),
	keyMaxConcurrentRetries:      shared(whole("maxConcurrentRetries", 0, maxCount, "how many operations of the key may be in flight at once, over all instances; 0 is without limit", func(p *Policy) *int { return &p.MaxConcurrentRetries })),
	keyRetryBudgetPerMinute:      shared(whole("retryBudgetPerMinute", 0, maxCount, "how many redeliveries of the key are made in a minute at most; 0 is without limit", func(p *Policy) *int { return &p.RetryBudgetPerMinute })),
	keyRetryBudgetPerHour:        shared(whole("retryBudgetPerHour", 0, maxCount, "how many redeliveries of the key are made in an hour at most; 0 is without limit", func(p *Policy) *int { return &p.RetryBudgetPerHour })),
	keyRespectGlobalBackpressure: own(truth("respectGlobalBackpressure", "whether a failing key has only a trickle of attempts while backpressure is on", func(p *Policy) *bool { return &p.RespectGlobalBackpressure })),

	keyPriority: choice("priority", priorityWords(), "the priority of operations that name none", func(p *Policy) wording { return &p.Priority }),
	keyDelivery: {
		Key: Key{Name: "delivery", Values: oneOf(deliveryWords), Meaning: "how operations that do not say it reach their target: as a request, or through the stream of workers"},
		read: func(p *Policy, s string) *issue {
			word := strings.ToLower(s)
			if !slices.Contains(deliveryWords, word) {
				return &issue{fmt.Sprintf("%q is not %s", short(s), oneOf(deliveryWords)), didYouMean(spelling.Nearest(word, deliveryWords))}
			}
			p.Delivery = events.Delivery(word)
			return nil
		},
		text: func(p *Policy) string { return string(p.Delivery) },
	},
	keyTarget: {
		Key:  Key{Name: "target", Values: "a subject, with {service} and {operation} filled in", Meaning: "where operations go that name no target"},
		read: readTarget,
		text: func(p *Policy) string { return p.Target },
	},
	keyTargets: {
		Key:  Key{Name: "targets", Values: "a list of subject patterns", Meaning: "of which a target must match one; empty allows every subject that is not forbidden to all"},
		text: func(p *Policy) string { return flow(p.Targets) },
	},
	keyDependsOn: {
		Key:  Key{Name: "dependsOn", Values: "a list of services, or of service:operation", Meaning: "what the operations cannot do without", Shared: true},
		text: func(p *Policy) string { return flow(p.DependsOn) },
	},
	keyRules: {
		Key:  Key{Name: "rules", Values: "a list of rules with name, service, codes, message, class and limit", Meaning: "how failures are classified before the built-in table is asked; the first rule that matches decides", Shared: true},
		text: func(p *Policy) string { return fmt.Sprintf("%d rules", len(p.Rules)) },
	},
}

// keyIndex maps each name to its index in keys.
var keyIndex = func() map[string]int {
	index := make(map[string]int, len(keys))
	for i := range keys {
		index[keys[i].Name] = i
	}
	return index
}()

// keySet is a set of indices in keys.
type keySet uint64

func (s keySet) has(i int) bool { return s&(1<<i) != 0 }

func (s *keySet) add(i int) { *s |= 1 << i }

// apply copies the fields of the keys in s. The fields are spelt out because calls
// through the table would move every resolved policy to the heap; a test sets every
// key, so that none is left out.
func (s keySet) apply(to, from *Policy) {
	assign(s.has(keyMaxAttempts), &to.MaxAttempts, &from.MaxAttempts)
	assign(s.has(keyBaseDelay), &to.BaseDelay, &from.BaseDelay)
	assign(s.has(keyMaxDelay), &to.MaxDelay, &from.MaxDelay)
	assign(s.has(keyMultiplier), &to.Multiplier, &from.Multiplier)
	assign(s.has(keyBackoffStrategy), &to.BackoffStrategy, &from.BackoffStrategy)
	assign(s.has(keyJitterType), &to.JitterType, &from.JitterType)
	assign(s.has(keyAttemptTimeout), &to.AttemptTimeout, &from.AttemptTimeout)
	assign(s.has(keyMaxElapsedTime), &to.MaxElapsedTime, &from.MaxElapsedTime)
	assign(s.has(keyNoResponders), &to.NoResponders, &from.NoResponders)
	assign(s.has(keyEnableAdaptiveBackoff), &to.EnableAdaptiveBackoff, &from.EnableAdaptiveBackoff)
	assign(s.has(keySuccessRateThreshold), &to.SuccessRateThreshold, &from.SuccessRateThreshold)
	assign(s.has(keyAdaptationFactor), &to.AdaptationFactor, &from.AdaptationFactor)
	assign(s.has(keyLearningWindow), &to.LearningWindow, &from.LearningWindow)
	assign(s.has(keyEnableCircuitBreaker), &to.EnableCircuitBreaker, &from.EnableCircuitBreaker)
	assign(s.has(keyCircuitBreakerThreshold), &to.CircuitBreakerThreshold, &from.CircuitBreakerThreshold)
	assign(s.has(keyCircuitBreakerTimeout), &to.CircuitBreakerTimeout, &from.CircuitBreakerTimeout)
	assign(s.has(keyCircuitBreakerFailureRate), &to.CircuitBreakerFailureRate, &from.CircuitBreakerFailureRate)
	assign(s.has(keyCircuitBreakerWindow), &to.CircuitBreakerWindow, &from.CircuitBreakerWindow)
	assign(s.has(keyCircuitBreakerMinimumCalls), &to.CircuitBreakerMinimumCalls, &from.CircuitBreakerMinimumCalls)
	assign(s.has(keyHalfOpenMaxRequests), &to.HalfOpenMaxRequests, &from.HalfOpenMaxRequests)
	assign(s.has(keyHalfOpenSuccesses), &to.HalfOpenSuccesses, &from.HalfOpenSuccesses)
	assign(s.has(keyEnableResourceAwareRetry), &to.EnableResourceAwareRetry, &from.EnableResourceAwareRetry)
	assign(s.has(keyMaxConcurrentRetries), &to.MaxConcurrentRetries, &from.MaxConcurrentRetries)
	assign(s.has(keyRetryBudgetPerMinute), &to.RetryBudgetPerMinute, &from.RetryBudgetPerMinute)
	assign(s.has(keyRetryBudgetPerHour), &to.RetryBudgetPerHour, &from.RetryBudgetPerHour)
	assign(s.has(keyRespectGlobalBackpressure), &to.RespectGlobalBackpressure, &from.RespectGlobalBackpressure)
	assign(s.has(keyPriority), &to.Priority, &from.Priority)
	assign(s.has(keyDelivery), &to.Delivery, &from.Delivery)
	assign(s.has(keyTarget), &to.Target, &from.Target)
	assign(s.has(keyTargets), &to.Targets, &from.Targets)
	assign(s.has(keyDependsOn), &to.DependsOn, &from.DependsOn)
	assign(s.has(keyRules), &to.Rules, &from.Rules)
}

// assign copies a value if it is set.
func assign[T any](set bool, to, from *T) {
	if set {
		*to = *from
	}
}

func shared(k key) key {
	k.Shared = true
	return k
}

// own marks a key whose value may be an operation's own.
func own(k key) key {
	k.Overridable = true
	return k
}

func whole(name string, least, most int, meaning string, field func(*Policy) *int) key {
	values := fmt.Sprintf("a whole number from %d", least)
	if most < maxCount {
		values += fmt.Sprintf(" to %d", most)
	}
	return key{
		Key: Key{Name: name, Values: values, Meaning: meaning},
		read: func(p *Policy, s string) *issue {
			n, f := readWhole(s, least, most)
			if f == nil {
				*field(p) = n
			}
			return f
		},
		text: func(p *Policy) string { return strconv.Itoa(*field(p)) },
	}
}

func number(name string, least, most float64, meaning string, field func(*Policy) *float64) key {
	return key{
		Key: Key{Name: name, Values: fmt.Sprintf("a number from %v to %v", least, most), Meaning: meaning},
		read: func(p *Policy, s string) *issue {
			n, f := readNumber(s, least, most)
			if f == nil {
				*field(p) = n
			}
			return f
		},
		text: func(p *Policy) string { return strconv.FormatFloat(*field(p), 'g', -1, 64) },
	}
}

func truth(name, meaning string, field func(*Policy) *bool) key {
	return key{
		Key: Key{Name: name, Values: "true or false", Meaning: meaning},
		read: func(p *Policy, s string) *issue {
			b, f := readTruth(s)
			if f == nil {
				*field(p) = b
			}
			return f
		},
		text: func(p *Policy) string { return strconv.FormatBool(*field(p)) },
	}
}

func span(name string, least time.Duration, meaning string, field func(*Policy) *time.Duration) key {
	values := "a duration such as 1500 (milliseconds), 1.5s or 2m, up to a year"
	if least > 0 {
		values += ", longer than 0"
	}
	return key{
		Key: Key{Name: name, Values: values, Meaning: meaning},
		read: func(p *Policy, s string) *issue {
			d, f := readSpan(s, least)
			if f == nil {
				*field(p) = d
			}
			return f
		},
		text: func(p *Policy) string { return spanText(*field(p)) },
	}
}

// wording is a value written as one of several words.
type wording interface {
	encoding.TextUnmarshaler
	encoding.TextMarshaler
}

func choice(name string, words []string, meaning string, field func(*Policy) wording) key {
	return key{
		Key: Key{Name: name, Values: oneOf(words), Meaning: meaning},
		read: func(p *Policy, s string) *issue {
			word := strings.ToLower(s)
			if err := field(p).UnmarshalText([]byte(word)); err != nil {
				return &issue{fmt.Sprintf("%q is not %s", short(s), oneOf(words)), didYouMean(spelling.Nearest(word, words))}
			}
			return nil
		},
		text: func(p *Policy) string {
			b, err := field(p).MarshalText()
			if err != nil {
				return err.Error()
			}
			return string(b)
		},
	}
}

var deliveryWords = []string{string(events.Request), string(events.Publish)}

func priorityWords() []string {
	words := make([]string, 0, len(events.Priorities))
	for _, p := range events.Priorities {
		words = append(words, p.String())
	}
	return words
}

// oneOf joins words as "a, b or c".
func oneOf(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
