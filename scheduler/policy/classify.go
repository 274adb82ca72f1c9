package policy

import (
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

// Class is whether a failure may be worth another attempt: retryable or
// not_retryable in policy files and events. The policy's rules classify failures
// that depend on the context.
type Class uint8

const (
	// Retryable is a failure that another attempt may avoid.
	Retryable Class = iota
	// NotRetryable is a failure that every other attempt would repeat.
	NotRetryable
)

// The names of the built-in rules in decisions and events. A rule that decided by
// the message has "message:" before its name.
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
	RulePanic          = "panic"          // not retryable: a bug that every other attempt would hit
	RuleUnknown        = "unknown"        // retryable, unhealthy
)

// Classify returns whether the failure f of a service's operation may be worth
// another attempt, and the name of the rule that decided. The policy's own rules
// come first, in their order. Next is the built-in table of codes: HTTP numbers,
// gRPC names, NATS errors, system errors and the original design's error types,
// regardless of letter case, underscores, hyphens and spaces. A failure without a
// code is classified by words in its message.
//
// Any other failure is retryable, by rule "unknown": a wrong attempt costs one
// request and is bounded by the policy, whereas a wrong refusal loses the operation
// to the dead letters.
//
// seen counts how often each rule with a limit has decided for the operation; it is
// only read, and may be nil. A rule whose limit is reached decides [NotRetryable].
func (p *Policy) Classify(service string, f Failure, seen map[string]int) (Class, string) {
	v := p.judge(service, f, seen)
	return v.class, v.rule
}

// Unhealthy reports whether the failure says something of the target's health and so
// counts for breakers and health scores. Timeouts, no responders, refused
// connections, server errors and failures that the built-in table does not know do.
// A rate limit does not, because a target that answers with one is alive; nor does a
// failure that is the request's own fault. The policy's rules have no say in it.
func (f Failure) Unhealthy() bool {
	var buf [maxCode]byte
	return builtinKind(f, appendCode(buf[:0], f.Code)).unhealthy
}

// Result returns the failure's result for a gate: [gate.Failure] if it is
// [Failure.Unhealthy], [gate.Throttled] for a rate limit, else [gate.Ignored].
func (f Failure) Result() gate.Result {
	var buf [maxCode]byte
	switch k := builtinKind(f, appendCode(buf[:0], f.Code)); {
	case k.unhealthy:
		return gate.Failure
	case k == kindRateLimited:
		return gate.Throttled
	}
	return gate.Ignored
}

// verdict is how a failure was classified.
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

// kind is one row of the built-in classification.
type kind struct {
	rule      string
	class     Class
	unhealthy bool
}

var (
	kindTimeout        = &kind{RuleTimeout, Retryable, true}
	kindNoResponders   = &kind{RuleNoResponders, Retryable, true}
	kindConnection     = &kind{RuleConnection, Retryable, true}
	kindUnavailable    = &kind{RuleUnavailable, Retryable, true}
	kindServerError    = &kind{RuleServerError, Retryable, true}
	kindExhausted      = &kind{RuleExhausted, Retryable, true}
	kindRateLimited    = &kind{RuleRateLimited, Retryable, false}
	kindConflict       = &kind{RuleConflict, Retryable, false}
	kindTooEarly       = &kind{RuleTooEarly, Retryable, false}
	kindAuthentication = &kind{RuleAuthentication, NotRetryable, false}
	kindForbidden      = &kind{RuleForbidden, NotRetryable, false}
	kindNotFound       = &kind{RuleNotFound, NotRetryable, false}
	kindInvalid        = &kind{RuleInvalid, NotRetryable, false}
	kindCancelled      = &kind{RuleCancelled, NotRetryable, false}
	kindPanic          = &kind{RulePanic, NotRetryable, false}
	kindUnknown        = &kind{RuleUnknown, Retryable, true}
)

// codes maps known codes to their kinds. gRPC's RESOURCE_EXHAUSTED counts as a rate
// limit, which is what servers use it for; ABORTED is a conflict, because gRPC's
// specification suggests to retry it at a higher level. HTTP numbers that are not
// listed follow their first digit.
var codes = codesOf(map[*kind][]string{
	kindTimeout: {
		"408", "504", "DEADLINE_EXCEEDED", "timeout", "slow_reply", "worker_timeout", "timed_out", "ETIMEDOUT", "ESOCKETTIMEDOUT",
		"TIMEOUT_ERROR", "NETWORK_TIMEOUT", "CONNECTION_TIMEOUT", "CONNECT_TIMEOUT", "REQUEST_TIMEOUT",
		"OPERATION_TIMEOUT", "GATEWAY_TIMEOUT", "ANALYSIS_TIMEOUT", "READ_TIMEOUT", "context deadline exceeded",
		"nats: timeout", "nats: draining connection timed out",
	},
	kindNoResponders: {
		"no_responders", "NO_RESPONDERS_ERROR", "no_stream",
		"nats: no responders available for request",
	},
	kindConnection: {
		"CONNECTION", "CONNECTION_ERROR", "CONNECTION_FAILED", "CONNECTION_LOST", "CONNECTION_REFUSED", "CONNECTION_RESET",
		"CONNECTION_CLOSED", "NETWORK_ERROR", "NETWORK_FAILURE", "PROXY_ERROR", "ECONNREFUSED", "ECONNRESET",
		"ECONNABORTED", "EPIPE", "EHOSTUNREACH", "ENETUNREACH", "ENETDOWN", "ENOTFOUND", "EAI_AGAIN", "DNS_ERROR",
		"nats: connection closed", "nats: connection draining", "nats: connection reconnecting",
		"nats: stale connection", "nats: no servers available for connection", "nats: server is disconnected",
	},
	kindUnavailable: {
		"502", "503", "UNAVAILABLE", "SERVICE_UNAVAILABLE", "TEMPORARILY_UNAVAILABLE", "BAD_GATEWAY", "OVERLOADED",
		"SERVICE_OVERLOADED", "MAINTENANCE", "CIRCUIT_BREAKER_OPEN", "NOT_READY",
	},
	kindServerError: {
		"500", "INTERNAL", "INTERNAL_ERROR", "INTERNAL_SERVER_ERROR", "SERVER_ERROR", "DATABASE_ERROR", "CACHE_ERROR",
		"PROCESSING_ERROR", "DATA_PROCESSING_FAILED", "METRIC_COLLECTION_ERROR",
	},
	kindExhausted: {
		"507", "POOL_EXHAUSTED", "CONNECTION_POOL_EXHAUSTED", "RESOURCE_CONSTRAINT", "RESOURCE_LIMIT_EXCEEDED",
		"INSUFFICIENT_RESOURCES", "OUT_OF_MEMORY", "QUEUE_FULL", "EMFILE", "ENFILE", "ENOMEM",
		"nats: slow consumer, messages dropped", "nats: outbound buffer limit exceeded",
		"nats: server maximum connections exceeded", "nats: maximum account active connections exceeded",
	},
	kindRateLimited: {
		"429", "RESOURCE_EXHAUSTED", "RATE_LIMIT", "RATE_LIMITED", "RATE_LIMIT_EXCEEDED", "API_RATE_LIMIT_EXCEEDED",
		"TOO_MANY_REQUESTS", "THROTTLED", "THROTTLING", "THROTTLING_EXCEPTION", "SLOW_DOWN",
	},
	kindConflict: {"409", "423", "ABORTED", "CONFLICT", "LOCKED", "DEADLOCK", "EAGAIN", "EBUSY"},
	kindTooEarly: {"425", "TOO_EARLY"},
	kindAuthentication: {
		"401", "407", "UNAUTHENTICATED", "UNAUTHORIZED", "AUTHENTICATION_FAILED", "AUTHENTICATION_ERROR",
		"AUTHENTICATION_REQUIRED", "AUTH_FAILED", "INVALID_CREDENTIALS", "INVALID_TOKEN", "TOKEN_EXPIRED",
		"SESSION_EXPIRED", "SESSION_INVALID",
		"nats: authorization violation", "nats: authentication expired", "nats: authentication revoked",
		"nats: account authentication expired",
	},
	kindForbidden: {
		"402", "403", "451", "FORBIDDEN", "forbidden_target", "PERMISSION_DENIED", "ACCESS_DENIED", "AUTHORIZATION_FAILED",
		"AUTHORIZATION_ERROR", "ACCOUNT_SUSPENDED", "ACCOUNT_LOCKED", "ACCOUNT_DISABLED", "QUOTA_EXCEEDED_PERMANENTLY",
		"EACCES", "EPERM",
		"nats: permissions violation",
	},
	kindNotFound: {"404", "410", "NOT_FOUND", "RESOURCE_NOT_FOUND", "ACCOUNT_NOT_FOUND", "USER_NOT_FOUND", "GONE", "ENOENT"},
	kindInvalid: {
		"INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE", "ALREADY_EXISTS", "UNIMPLEMENTED", "DATA_LOSS",
		"INVALID", "INVALID_REQUEST", "INVALID_INPUT", "INVALID_CONFIGURATION", "BAD_REQUEST", "VALIDATION_ERROR",
		"VALIDATION_FAILED", "NOT_IMPLEMENTED", "METHOD_NOT_ALLOWED", "PAYLOAD_TOO_LARGE", "UNPROCESSABLE_ENTITY",
		"DUPLICATE", "CONTENT_REJECTED", "EINVAL",
		"nats: maximum payload exceeded", "nats: invalid subject", "nats: invalid argument",
	},
	kindCancelled: {"499", "CANCELLED", "CANCELED"},
	kindPanic:     {"PANIC"},
})

func codesOf(rows map[*kind][]string) map[string]*kind {
	table := make(map[string]*kind)
	for k, list := range rows {
		for _, code := range list {
			normal := normalCode(code)
			if table[normal] != nil {
				panic("code " + code + " is in two rows of the table")
			}
			table[normal] = k
		}
	}
	return table
}

// builtinKind classifies f by the built-in tables. code is f's code in normal form.
func builtinKind(f Failure, code []byte) *kind {
	if k := codes[string(code)]; k != nil {
		return k
	}
	if len(f.Code) == 0 {
		if k := kindOfMessage(f.Message); k != nil {
			return k
		}
	}
	if len(code) == 3 && isDigit(code[1]) && isDigit(code[2]) {
		switch code[0] {
		case '4':
			return kindInvalid
		case '5':
			return kindServerError
		}
	}
	return kindUnknown
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// phrase is a text that shows the kind of a failure without a code.
type phrase struct {
	text string
	kind *kind
}

// phrases, by their first letter, are matched at the beginnings of words. If a
// message has several, one of a retryable kind wins.
var phrases = phrasesOf([]phrase{
	{"timeout", kindTimeout},
	{"timed out", kindTimeout},
	{"deadline exceeded", kindTimeout},
	{"i/o timeout", kindTimeout},
	{"no responders", kindNoResponders},
	{"connection refused", kindConnection},
	{"connection reset", kindConnection},
	{"connection closed", kindConnection},
	{"connection lost", kindConnection},
	{"stale connection", kindConnection},
	{"no servers available", kindConnection},
	{"server is disconnected", kindConnection},
	{"broken pipe", kindConnection},
	{"no route to host", kindConnection},
	{"no such host", kindConnection},
	{"host not found", kindConnection},
	{"unexpected eof", kindConnection},
	{"unavailable", kindUnavailable},
	{"overloaded", kindUnavailable},
	{"bad gateway", kindUnavailable},
	{"internal server error", kindServerError},
	{"pool exhausted", kindExhausted},
	{"queue full", kindExhausted},
	{"out of memory", kindExhausted},
	{"rate limit", kindRateLimited},
	{"too many requests", kindRateLimited},
	{"throttled", kindRateLimited},
	{"authentication failed", kindAuthentication},
	{"unauthenticated", kindAuthentication},
	{"unauthorized", kindAuthentication},
	{"invalid credentials", kindAuthentication},
	{"authentication expired", kindAuthentication},
	{"authorization violation", kindAuthentication},
	{"permissions violation", kindForbidden},
	{"forbidden", kindForbidden},
	{"permission denied", kindForbidden},
	{"access denied", kindForbidden},
	{"not found", kindNotFound},
	{"maximum payload exceeded", kindInvalid},
	{"invalid argument", kindInvalid},
	{"invalid request", kindInvalid},
	{"validation failed", kindInvalid},
})

func phrasesOf(list []phrase) (table [256][]phrase) {
	for _, ph := range list {
		byMessage := *ph.kind
		byMessage.rule = "message:" + ph.kind.rule
		table[ph.text[0]] = append(table[ph.text[0]], phrase{ph.text, &byMessage})
	}
	return table
}

// kindOfMessage classifies a message by its words; it returns nil if none is known.
// The kind's rule is the one by message.
func kindOfMessage(message string) *kind {
	message = message[:min(len(message), maxMessage)]
	var found *kind
	within := false
	for i := range len(message) {
		before := within
		if within = wordBytes[message[i]]; before || !within {
			continue
		}
		k := kindOfWords(message[i:])
		if k == nil {
			continue
		}
		if k.class == Retryable {
			return k
		}
		if found == nil {
			found = k
		}
	}
	return found
}

// kindOfWords classifies words by the phrases that they begin with: the first
// retryable kind wins, else the first.
func kindOfWords(words string) (found *kind) {
	if len(words) < 2 {
		return nil
	}
	// Comparing the second byte rules out most phrases without a call.
	second := toLower(words[1])
	for _, ph := range phrases[toLower(words[0])] {
		if ph.text[1] != second || !hasPrefixFold(words, ph.text) {
			continue
		}
		if ph.kind.class == Retryable {
			return ph.kind
		}
		if found == nil {
			found = ph.kind
		}
	}
	return found
}

// wordBytes are the bytes that words consist of.
var wordBytes = func() (table [256]bool) {
	for c := range table {
		lower := toLower(byte(c))
		table[c] = 'a' <= lower && lower <= 'z' || isDigit(lower)
	}
	return table
}()

// containsInOrder reports whether the beginning of s contains all pieces in order,
// regardless of letter case. pieces are lower case.
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

// indexFold returns the first index of lower, which is in lower case and not empty,
// in s regardless of letter case, or -1. It folds ASCII letters only.
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

// maxMessage is how many bytes of a message are read: as many as events carry, so
// that events show what decided. It bounds the time that classification takes.
const maxMessage = events.MaxError

// maxCode is the length of the longest code that is looked up, in bytes.
const maxCode = 64

// appendCode appends the normal form of code to b: lower case, without underscores,
// hyphens and spaces. A code that is too long for any table becomes empty.
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

// String returns the word for c in policy files and events.
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
