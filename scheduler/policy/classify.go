package policy

import (
	"fmt"
	"strings"

	"github.com/rebound-mq/rebound/events"
)

// Class tells whether a failure may be worth another attempt. Context-dependent
// failures are classified by the policy's rules, which resolve to one of the
// two. Its words in policy files and events are retryable and not_retryable.
type Class uint8

const (
	// Retryable is a failure that another attempt may not meet.
	Retryable Class = iota
	// NotRetryable is a failure that every other attempt would meet as well.
	NotRetryable
)

// The names of the built-in rules, as decisions and events bear them. A rule
// that decided by the message bears the same name after "message:".
const (
	RuleTimeout        = "timeout"        // retryable, unhealthy
	RuleNoResponders   = "no_responders"  // retryable, unhealthy
	RuleConnection     = "connection"     // retryable, unhealthy
	RuleUnavailable    = "unavailable"    // retryable, unhealthy
	RuleServerError    = "server_error"   // retryable, unhealthy
	RuleExhausted      = "exhausted"      // retryable, unhealthy: pools, queues, memory
	RuleRateLimited    = "rate_limited"   // retryable
	RuleConflict       = "conflict"       // retryable
	RuleTooEarly       = "too_early"      // retryable
	RuleAuthentication = "authentication" // not retryable
	RuleForbidden      = "forbidden"      // not retryable
	RuleNotFound       = "not_found"      // not retryable
	RuleInvalid        = "invalid"        // not retryable
	RuleCancelled      = "cancelled"      // not retryable
	RulePanic          = "panic"          // not retryable: a bug that every other attempt would meet
	RuleUnknown        = "unknown"        // retryable, unhealthy
)

// Classify tells whether the failure f of a service's operation may be worth
// another attempt, and which rule decided. The policy's own rules come first, in
// their order. Next is the built-in table of codes: HTTP numbers, gRPC names,
// NATS errors, system errors and the original design's error types, whose letter
// case, underscores, hyphens and spaces do not count. A failure without a code
// is classified by words in its message.
//
// What none of these knows is retryable, by rule "unknown": a wrong attempt
// costs one request and is bounded by the policy, a wrong refusal loses the
// operation to the dead letters.
//
// seen tells how often each rule with a limit decided for the operation before;
// it is only read, and may be nil. A rule whose limit is reached decides
// [NotRetryable].
func (p *Policy) Classify(service string, f Failure, seen map[string]int) (Class, string) {
	v := p.judge(service, f, seen)
	return v.class, v.rule
}

// Unhealthy tells whether the failure speaks of the target's health, so that it
// counts for breakers and health scores: timeouts, no responders, refused
// connections, server errors and what the built-in table does not know do. A
// rate limit does not, since a target that answers with one is alive and rations
// its caller; nor do failures that are the request's own fault. The policy's
// rules have no say in it.
func (f Failure) Unhealthy() bool {
	var buf [maxCode]byte
	return builtinKind(f, appendCode(buf[:0], f.Code)).unhealthy
}

// verdict is what a failure was taken for.
type verdict struct {
	class     Class
	rule      string
	limited   bool
	unhealthy bool
}

// judge classifies by the policy's rules first and the built-in table second.
func (p *Policy) judge(service string, f Failure, seen map[string]int) verdict {
	var buf [maxCode]byte
	code := appendCode(buf[:0], f.Code)
	k := builtinKind(f, code)
	for i := range p.Rules {
		r := &p.Rules[i]
		switch {
		case !r.matches(service, code, f.Message):
			continue
		case r.Limit == 0 || r.Class == NotRetryable:
			return verdict{r.Class, r.Name, false, k.unhealthy}
		case seen[r.Name] >= r.Limit:
			return verdict{NotRetryable, r.Name, false, k.unhealthy}
		}
		return verdict{Retryable, r.Name, true, k.unhealthy}
	}
	return verdict{k.class, k.rule, false, k.unhealthy}
}

// NewRule returns r ready for use in a [Policy] that is built by hand; policy
// files go through it by themselves. A rule without it matches nothing.
func NewRule(r Rule) Rule {
	r.codes, r.message = nil, nil
	for _, c := range r.Codes {
		r.codes = append(r.codes, normalCode(c))
	}
	for piece := range strings.SplitSeq(lowerASCII(r.Message), "*") {
		if piece != "" {
			r.message = append(r.message, piece)
		}
	}
	return r
}

// matches tells whether every condition that the rule states holds. code is
// normal.
func (r *Rule) matches(service string, code []byte, message string) bool {
	switch {
	case r.Service != "" && r.Service != service:
		return false
	case len(r.codes) == 0 && len(r.message) == 0:
		return false
	case len(r.codes) > 0 && !r.hasCode(code):
		return false
	}
	return len(r.message) == 0 || containsInOrder(message, r.message)
}

func (r *Rule) hasCode(code []byte) bool {
	for _, c := range r.codes {
		if string(code) == c {
			return true
		}
	}
	return false
}

// containsInOrder tells whether the beginning of s holds all pieces, one after
// the other, letter case aside. pieces are lower case.
func containsInOrder(s string, pieces []string) bool {
	s = s[:min(len(s), maxMessage)]
	for _, piece := range pieces {
		i := indexFold(s, piece)
		if i < 0 {
			return false
		}
		s = s[i+len(piece):]
	}
	return true
}

// indexFold returns where lower, which is in lower case and not empty, first
// stands in s, letter case aside, or -1. Only ASCII letters have a case here.
func indexFold(s, lower string) int {
	for i := 0; i+len(lower) <= len(s); i++ {
		if toLower(s[i]) == lower[0] && hasPrefixFold(s[i:], lower) {
			return i
		}
	}
	return -1
}

func hasPrefixFold(s, lower string) bool {
	if len(s) < len(lower) {
		return false
	}
	for i := range len(lower) {
		if toLower(s[i]) != lower[i] {
			return false
		}
	}
	return true
}

func toLower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// lowerASCII returns s with its ASCII letters in lower case.
func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		b[i] = toLower(c)
	}
	return string(b)
}

// maxMessage is how much of a message is looked at, in bytes: as much as events
// tell of it, so that what decided can be seen there. It bounds the time that
// classification takes.
const maxMessage = events.MaxError

// maxCode is the longest code that is told from others, in bytes.
const maxCode = 64

// appendCode appends code to b without what does not count in a code: letter
// case, underscores, hyphens and spaces. A code that is too long for any table
// comes out empty.
func appendCode(b []byte, code string) []byte {
	if len(code) > maxCode {
		return b
	}
	for i := range len(code) {
		switch c := code[i]; c {
		case '_', '-', ' ':
		default:
			b = append(b, toLower(c))
		}
	}
	return b
}

func normalCode(code string) string { return string(appendCode(nil, code)) }

var classWords = [...]string{Retryable: "retryable", NotRetryable: "not_retryable"}

// String returns the word that stands for c in policy files and events.
func (c Class) String() string { return word(classWords[:], int(c)) }

// ParseClass reads one of retryable, not_retryable. Anything else is an error
// that names these.
func ParseClass(s string) (Class, error) {
	i, err := parseWord(classWords[:], s, "retryable or not_retryable")
	return Class(i), err
}

// MarshalText implements [encoding.TextMarshaler].
func (c Class) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler] with the words of
// [ParseClass].
func (c *Class) UnmarshalText(b []byte) (err error) {
	*c, err = ParseClass(string(b))
	return err
}

// String returns the rule in a line, as policy show prints it.
func (r Rule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", r.Name, r.Class)
	switch {
	case r.Limit == 1:
		b.WriteString(" once")
	case r.Limit > 1:
		fmt.Fprintf(&b, " %d times", r.Limit)
	}
	if r.Service != "" {
		fmt.Fprintf(&b, " for %s", r.Service)
	}
	if len(r.Codes) > 0 {
		fmt.Fprintf(&b, " on %s", strings.Join(r.Codes, ", "))
	}
	if r.Message != "" {
		fmt.Fprintf(&b, " with message %q", r.Message)
	}
	return b.String()
}
