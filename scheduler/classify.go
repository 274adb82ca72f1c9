package scheduler

import (
	"slices"
	"strconv"
	"strings"
)

// Class tells whether a failure may be worth another attempt. Context-dependent
// failures are classified by the policy's rules, which resolve to one of the
// two. Its words are retryable and not_retryable.
type Class uint8

const (
	// Retryable is a failure that another attempt may not meet.
	Retryable Class = iota
	// NotRetryable is a failure that every other attempt would meet as well.
	NotRetryable
)

// String returns the word that stands for c in events.
func (c Class) String() string {
	if c == NotRetryable {
		return "not_retryable"
	}
	return "retryable"
}

// The names of the built-in rules.
const (
	ruleCode    = "built-in code"
	ruleHTTP    = "built-in HTTP status"
	ruleUnknown = "built-in unknown"
)

// builtinCodes classifies the codes that are words: gRPC names, NATS failures
// and the original design's error types, normalised.
var builtinCodes = map[string]Class{
	"timeout": Retryable, "noresponders": Retryable, "slowreply": Retryable, "connection": Retryable,
	"unavailable": Retryable, "deadlineexceeded": Retryable, "resourceexhausted": Retryable, "aborted": Retryable,
	"ratelimitexceeded": Retryable, "serviceunavailable": Retryable, "connectiontimeout": Retryable, "networkerror": Retryable,

	"invalidargument": NotRetryable, "notfound": NotRetryable, "alreadyexists": NotRetryable, "permissiondenied": NotRetryable,
	"unauthenticated": NotRetryable, "failedprecondition": NotRetryable, "outofrange": NotRetryable, "unimplemented": NotRetryable,
	"authenticationfailed": NotRetryable, "forbidden": NotRetryable, "validationerror": NotRetryable, "resourcenotfound": NotRetryable,
}

// verdict is what a failure was taken for.
type verdict struct {
	class   Class
	rule    string
	limited bool
}

// Classify tells whether the failure f of a service's operation may be worth
// another attempt, and which rule decided. seen tells how often each rule with a
// limit decided for the operation before; it may be nil.
func (p *Policy) Classify(service string, f Failure, seen map[string]int) (Class, string) {
	v := p.judge(service, f, seen)
	return v.class, v.rule
}

// judge asks the policy's rules first and the built-in tables then. A code that
// neither knows is retryable: giving up on what might pass loses work, and the
// attempts are bounded all the same.
func (p *Policy) judge(service string, f Failure, seen map[string]int) verdict {
	code := normalised(f.Code)
	for i := range p.Rules {
		r := &p.Rules[i]
		if !r.matches(service, code, f.Message) {
			continue
		}
		if r.Limit > 0 && r.Class == Retryable {
			if seen[r.Name] >= r.Limit {
				return verdict{NotRetryable, r.Name, false}
			}
			return verdict{Retryable, r.Name, true}
		}
		return verdict{r.Class, r.Name, false}
	}
	if status, err := strconv.Atoi(code); err == nil {
		if status >= 400 && status < 500 && status != 408 && status != 425 && status != 429 {
			return verdict{NotRetryable, ruleHTTP, false}
		}
		return verdict{Retryable, ruleHTTP, false}
	}
	if class, ok := builtinCodes[code]; ok {
		return verdict{class, ruleCode, false}
	}
	return verdict{Retryable, ruleUnknown, false}
}

// matches reports whether every condition of the rule holds.
func (r *Rule) matches(service, code, message string) bool {
	if r.Service != "" && r.Service != service {
		return false
	}
	if len(r.codes) > 0 && !slices.Contains(r.codes, code) {
		return false
	}
	text := strings.ToLower(message[:min(len(message), 1024)])
	for _, piece := range r.message {
		i := strings.Index(text, piece)
		if i < 0 {
			return false
		}
		text = text[i+len(piece):]
	}
	return len(r.codes) > 0 || len(r.message) > 0
}

// prepare computes what matching needs.
func (r *Rule) prepare() {
	r.codes, r.message = nil, nil
	for _, c := range r.Codes {
		r.codes = append(r.codes, normalised(c))
	}
	for piece := range strings.SplitSeq(strings.ToLower(r.Message), "*") {
		if piece != "" {
			r.message = append(r.message, piece)
		}
	}
}

// normalised leaves out what does not count in a code: case, underscores,
// hyphens and spaces.
func normalised(code string) string {
	plain := true
	for i := 0; i < len(code) && plain; i++ {
		c := code[i]
		plain = c >= '0' && c <= '9' || c >= 'a' && c <= 'z'
	}
	if plain {
		return code
	}
	return strings.NewReplacer("_", "", "-", "", " ", "").Replace(strings.ToLower(code))
}

// Unhealthy tells whether the failure speaks of the target's health. One that is
// not retryable by the built-in tables, such as a validation error, does not.
func (f Failure) Unhealthy() bool {
	return (&Policy{}).judge("", f, nil).class == Retryable
}
