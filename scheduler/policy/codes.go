package policy

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

// codes says what each known code is. gRPC's RESOURCE_EXHAUSTED counts as a rate
// limit, which is what servers use it for; ABORTED is the one that its
// specification calls worth another attempt at a higher level. The HTTP numbers
// that are not named here follow their first digit.
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
		"402", "403", "451", "FORBIDDEN", "PERMISSION_DENIED", "ACCESS_DENIED", "AUTHORIZATION_FAILED",
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

// builtinKind classifies f by the built-in tables. code is f's, in its normal
// form.
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

// phrase is a text that tells the kind of a failure without a code.
type phrase struct {
	text string
	kind *kind
}

// phrases are looked for at the beginnings of words, and listed by their first
// letter. Where a message has several, one of a retryable kind wins.
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

// kindOfMessage returns what the words of a message tell, nil when nothing. The
// kind's rule is the one by message.
func kindOfMessage(message string) *kind {
	message = message[:min(len(message), maxMessage)]
	var found *kind
	within := false
	for i := range len(message) {
		before := within
		if within = wordBytes[message[i]]; before || !within {
			continue
		}
		for _, ph := range phrases[toLower(message[i])] {
			// The second byte rules most phrases out without a call.
			if i+1 >= len(message) || toLower(message[i+1]) != ph.text[1] || !hasPrefixFold(message[i:], ph.text) {
				continue
			}
			if ph.kind.class == Retryable {
				return ph.kind
			}
			if found == nil {
				found = ph.kind
			}
		}
	}
	return found
}

// wordBytes are the bytes of which words consist.
var wordBytes = func() (table [256]bool) {
	for c := range table {
		lower := toLower(byte(c))
		table[c] = 'a' <= lower && lower <= 'z' || isDigit(lower)
	}
	return table
}()
