package scheduler

import (
	"encoding"
	"fmt"
	"math"
	"math/bits"
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
	// Values are what it may be set to, in words.
	Values string
	// Meaning is what it does, in a sentence without its end.
	Meaning string
	// Shared tells that the key's value belongs to all operations of a service
	// and operation type together, as a breaker or a budget does, so that it
	// cannot differ by account or campaign.
	Shared bool
}

// Keys returns every key that sets a field of a [Policy], in the order in which
// policies are shown.
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
	// read reads a scalar; it is nil for the keys that are lists.
	read func(p *Policy, text string) *flaw
	copy func(to, from *Policy)
	// text returns the value as policy files write it.
	text func(p *Policy) string
}

// flaw is what is wrong with a value, and what is meant there instead.
type flaw struct{ problem, meant string }

// The keys that are read or written apart from the others.
const (
	keyTarget    = "target"
	keyTargets   = "targets"
	keyDependsOn = "dependsOn"
	keyRules     = "rules"
)

// Bounds of what a policy may say.
const (
	// maxDuration bounds every duration of a policy.
	maxDuration = 365 * 24 * time.Hour
	// maxMultiplier and maxAdaptation bound the growth of a delay.
	maxMultiplier, maxAdaptation = 100, 10
	// maxWindow is how many operations per service are remembered at all.
	maxWindow = 100
	maxCount  = math.MaxInt32
)

var keys = []key{
	whole("maxAttempts", 1, maxCount, "how often an operation is tried at most, the attempt that failed before its submission included", func(p *Policy) *int { return &p.MaxAttempts }),
	span("baseDelay", 0, "the delay after attempt 1, before factors and jitter", func(p *Policy) *time.Duration { return &p.BaseDelay }),
	span("maxDelay", 0, "the longest delay, save a Retry-After that the target named", func(p *Policy) *time.Duration { return &p.MaxDelay }),
	number("multiplier", 1, maxMultiplier, "by how much the exponential delay grows with each attempt", func(p *Policy) *float64 { return &p.Multiplier }),
	choice("backoffStrategy", strategyWords[:], "how the delay grows with the attempts", func(p *Policy) wording { return &p.BackoffStrategy }, func(to, from *Policy) { to.BackoffStrategy = from.BackoffStrategy }),
	choice("jitterType", jitterWords[:], "how the delay is spread at random", func(p *Policy) wording { return &p.JitterType }, func(to, from *Policy) { to.JitterType = from.JitterType }),
	span("attemptTimeout", 1, "how long one attempt may take", func(p *Policy) *time.Duration { return &p.AttemptTimeout }),
	span("maxElapsedTime", 0, "how long after its first failure an operation may still be tried; 0 is without limit", func(p *Policy) *time.Duration { return &p.MaxElapsedTime }),

	truth("enableAdaptiveBackoff", "whether the adaptive factors apply to a strategy other than adaptive too", func(p *Policy) *bool { return &p.EnableAdaptiveBackoff }),
	number("successRateThreshold", 0, 1, "the success rate below which delays grow", func(p *Policy) *float64 { return &p.SuccessRateThreshold }),
	number("adaptationFactor", 0, maxAdaptation, "by what share a success rate of 0 lengthens a delay", func(p *Policy) *float64 { return &p.AdaptationFactor }),
	whole("learningWindow", 1, maxWindow, "over how many of the last operations the success rate is taken", func(p *Policy) *int { return &p.LearningWindow }),

	shared(truth("enableCircuitBreaker", "whether the key has a circuit breaker", func(p *Policy) *bool { return &p.EnableCircuitBreaker })),
	shared(whole("circuitBreakerThreshold", 1, maxCount, "how many failures in a row open the breaker", func(p *Policy) *int { return &p.CircuitBreakerThreshold })),
	shared(span("circuitBreakerTimeout", 1, "how long the breaker stays open before it lets probes through", func(p *Policy) *time.Duration { return &p.CircuitBreakerTimeout })),
	shared(number("circuitBreakerFailureRate", 0, 1, "the share of failures in the window that opens the breaker; 0 leaves it out of account", func(p *Policy) *float64 { return &p.CircuitBreakerFailureRate })),
	shared(span("circuitBreakerWindow", 1, "over what time the failure rate is taken", func(p *Policy) *time.Duration { return &p.CircuitBreakerWindow })),
	shared(whole("circuitBreakerMinimumCalls", 1, maxCount, "how many calls the window needs before its failure rate counts", func(p *Policy) *int { return &p.CircuitBreakerMinimumCalls })),
	shared(whole("halfOpenMaxRequests", 1, maxCount, "how many probes of a half-open breaker may be in flight at once, over all instances", func(p *Policy) *int { return &p.HalfOpenMaxRequests })),
	shared(whole("halfOpenSuccesses", 1, maxCount, "how many successes in a row close the breaker", func(p *Policy) *int { return &p.HalfOpenSuccesses })),

	truth("enableResourceAwareRetry", "whether CPU, memory, pool use and queue length lengthen adaptive delays", func(p *Policy) *bool { return &p.EnableResourceAwareRetry }),
	shared(whole("maxConcurrentRetries", 0, maxCount, "how many operations of the key may be in flight at once, over all instances; 0 is without limit", func(p *Policy) *int { return &p.MaxConcurrentRetries })),
	shared(whole("retryBudgetPerMinute", 0, maxCount, "how many redeliveries of the key are made in a minute at most; 0 is without limit", func(p *Policy) *int { return &p.RetryBudgetPerMinute })),
	shared(whole("retryBudgetPerHour", 0, maxCount, "how many redeliveries of the key are made in an hour at most; 0 is without limit", func(p *Policy) *int { return &p.RetryBudgetPerHour })),
	truth("respectGlobalBackpressure", "whether operations are held while backpressure is on", func(p *Policy) *bool { return &p.RespectGlobalBackpressure }),

	choice("priority", priorityWords(), "the priority of operations that name none", func(p *Policy) wording { return &p.Priority }, func(to, from *Policy) { to.Priority = from.Priority }),
	{
		Key:  Key{Name: keyTarget, Values: "a subject, with {service} and {operation} filled in", Meaning: "where operations go that name no target"},
		read: readTarget,
		copy: func(to, from *Policy) { to.Target = from.Target },
		text: func(p *Policy) string { return p.Target },
	},
	{
		Key:  Key{Name: keyTargets, Values: "a list of subject patterns", Meaning: "of which a target must match one; empty allows every subject that is not forbidden to all"},
		copy: func(to, from *Policy) { to.Targets = from.Targets },
		text: func(p *Policy) string { return flow(p.Targets) },
	},
	{
		Key:  Key{Name: keyDependsOn, Values: "a list of services, or of service:operation", Meaning: "what the operations cannot do without", Shared: true},
		copy: func(to, from *Policy) { to.DependsOn = from.DependsOn },
		text: func(p *Policy) string { return flow(p.DependsOn) },
	},
	{
		Key:  Key{Name: keyRules, Values: "a list of rules with name, service, codes, message, class and limit", Meaning: "how failures are classified before the built-in table is asked; the first rule that matches decides", Shared: true},
		copy: func(to, from *Policy) { to.Rules = from.Rules },
		text: func(p *Policy) string { return fmt.Sprintf("%d rules", len(p.Rules)) },
	},
}

// keyIndex is the place in keys of each name.
var keyIndex = func() map[string]int {
	index := make(map[string]int, len(keys))
	for i := range keys {
		index[keys[i].Name] = i
	}
	return index
}()

// keySet is a set of places in keys.
type keySet uint64

func (s keySet) has(i int) bool { return s&(1<<i) != 0 }
func (s *keySet) add(i int)     { *s |= 1 << i }

// apply copies the fields of the keys in s.
func (s keySet) apply(to, from *Policy) {
	for rest := uint64(s); rest != 0; rest &= rest - 1 {
		keys[bits.TrailingZeros64(rest)].copy(to, from)
	}
}

func shared(k key) key {
	k.Shared = true
	return k
}

func whole(name string, least, most int, meaning string, field func(*Policy) *int) key {
	values := fmt.Sprintf("a whole number from %d", least)
	if most < maxCount {
		values += fmt.Sprintf(" to %d", most)
	}
	return key{
		Key: Key{Name: name, Values: values, Meaning: meaning},
		read: func(p *Policy, s string) *flaw {
			n, f := readWhole(s, least, most)
			if f == nil {
				*field(p) = n
			}
			return f
		},
		copy: func(to, from *Policy) { *field(to) = *field(from) },
		text: func(p *Policy) string { return strconv.Itoa(*field(p)) },
	}
}

func number(name string, least, most float64, meaning string, field func(*Policy) *float64) key {
	return key{
		Key: Key{Name: name, Values: fmt.Sprintf("a number from %v to %v", least, most), Meaning: meaning},
		read: func(p *Policy, s string) *flaw {
			n, f := readNumber(s, least, most)
			if f == nil {
				*field(p) = n
			}
			return f
		},
		copy: func(to, from *Policy) { *field(to) = *field(from) },
		text: func(p *Policy) string { return strconv.FormatFloat(*field(p), 'g', -1, 64) },
	}
}

func truth(name, meaning string, field func(*Policy) *bool) key {
	return key{
		Key: Key{Name: name, Values: "true or false", Meaning: meaning},
		read: func(p *Policy, s string) *flaw {
			b, f := readTruth(s)
			if f == nil {
				*field(p) = b
			}
			return f
		},
		copy: func(to, from *Policy) { *field(to) = *field(from) },
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
		read: func(p *Policy, s string) *flaw {
			d, f := readSpan(s, least)
			if f == nil {
				*field(p) = d
			}
			return f
		},
		copy: func(to, from *Policy) { *field(to) = *field(from) },
		text: func(p *Policy) string { return spanText(*field(p)) },
	}
}

// wording is a value that is written as one of several words.
type wording interface {
	encoding.TextUnmarshaler
	encoding.TextMarshaler
}

func choice(name string, words []string, meaning string, field func(*Policy) wording, copying func(to, from *Policy)) key {
	return key{
		Key: Key{Name: name, Values: oneOf(words), Meaning: meaning},
		read: func(p *Policy, s string) *flaw {
			word := strings.ToLower(s)
			if err := field(p).UnmarshalText([]byte(word)); err != nil {
				return &flaw{fmt.Sprintf("%q is not %s", short(s), oneOf(words)), didYouMean(spelling.Nearest(word, words))}
			}
			return nil
		},
		copy: copying,
		text: func(p *Policy) string {
			b, err := field(p).MarshalText()
			if err != nil {
				return err.Error()
			}
			return string(b)
		},
	}
}

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
