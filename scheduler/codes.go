package scheduler

// kind is one row of the built-in classification.
type kind struct {
	rule      string
	class     Class
	unhealthy bool
	byMessage string // rule, as it is named when the message decided
}

func newKind(rule string, class Class, unhealthy bool) *kind {
	return &kind{rule, class, unhealthy, "message:" + rule}
}

var (
	kindTimeout        = newKind(RuleTimeout, Retryable, true)
	kindNoResponders   = newKind(RuleNoResponders, Retryable, true)
	kindConnection     = newKind(RuleConnection, Retryable, true)
	kindUnavailable    = newKind(RuleUnavailable, Retryable, true)
	kindServerError    = newKind(RuleServerError, Retryable, true)
	kindExhausted      = newKind(RuleExhausted, Retryable, true)
	kindRateLimited    = newKind(RuleRateLimited, Retryable, false)
	kindConflict       = newKind(RuleConflict, Retryable, false)
	kindTooEarly       = newKind(RuleTooEarly, Retryable, false)
	kindAuthentication = newKind(RuleAuthentication, NotRetryable, false)
	kindForbidden      = newKind(RuleForbidden, NotRetryable, false)
	kindNotFound       = newKind(RuleNotFound, NotRetryable, false)
	kindInvalid        = newKind(RuleInvalid, NotRetryable, false)
	kindCancelled      = newKind(RuleCancelled, NotRetryable, false)
	kindUnknown        = newKind(RuleUnknown, Retryable, true)
)

// codes says what each known code is. gRPC's RESOURCE_EXHAUSTED counts as a rate
// limit, which is what servers use it for; ABORTED is the one that its
// specification calls worth another attempt at a higher level. The HTTP numbers
// that are not named here follow their first digit.
var codes = codesOf(map[*kind][]string{
	kindTimeout: {
		"408", "504", "DEADLINE_EXCEEDED", "timeout", "slow_reply", "timed_out", "ETIMEDOUT", "ESOCKETTIMEDOUT",
		"TIMEOUT_ERROR", "NETWORK_TIMEOUT", "CONNECTION_TIMEOUT", "CONNECT_TIMEOUT", "REQUEST_TIMEOUT",
		"OPERATION_TIMEOUT", "GATEWAY_TIMEOUT", "ANALYSIS_TIMEOUT", "READ_TIMEOUT", "context deadline exceeded",
		"nats: timeout", "nats: draining connection timed out",
	},
	kindNoResponders: {
		"no_responders", "NO_RESPONDERS_ERROR",
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
	{"timeout", kindTimeout}, {"timed out", kindTimeout}, {"deadline exceeded", kindTimeout},
	{"i/o timeout", kindTimeout},
	{"no responders", kindNoResponders},
	{"connection refused", kindConnection}, {"connection reset", kindConnection},
	{"connection closed", kindConnection}, {"connection lost", kindConnection},
	{"stale connection", kindConnection}, {"no servers available", kindConnection}, {"server is disconnected", kindConnection},
	{"broken pipe", kindConnection}, {"no route to host", kindConnection}, {"no such host", kindConnection},
	{"host not found", kindConnection}, {"unexpected eof", kindConnection},
	{"unavailable", kindUnavailable}, {"overloaded", kindUnavailable}, {"bad gateway", kindUnavailable},
	{"internal server error", kindServerError},
	{"pool exhausted", kindExhausted}, {"queue full", kindExhausted}, {"out of memory", kindExhausted},
	{"rate limit", kindRateLimited}, {"too many requests", kindRateLimited}, {"throttled", kindRateLimited},
	{"authentication failed", kindAuthentication}, {"unauthenticated", kindAuthentication},
	{"unauthorized", kindAuthentication}, {"invalid credentials", kindAuthentication},
	{"authentication expired", kindAuthentication}, {"authorization violation", kindAuthentication},
	{"permissions violation", kindForbidden}, {"forbidden", kindForbidden}, {"permission denied", kindForbidden}, {"access denied", kindForbidden},
	{"not found", kindNotFound},
	{"maximum payload exceeded", kindInvalid}, {"invalid argument", kindInvalid}, {"invalid request", kindInvalid}, {"validation failed", kindInvalid},
})

func phrasesOf(list []phrase) (table [256][]phrase) {
	for _, ph := range list {
		table[ph.text[0]] = append(table[ph.text[0]], ph)
	}
	return table
}

// kindOfMessage returns what the words of a message tell, nil when nothing. The
// kind's rule is the one by message.
func kindOfMessage(message string) *kind {
	message = message[:min(len(message), maxMessage)]
	var found *kind
	between := true
	for i := range len(message) {
		c := toLower(message[i])
		first := between
		between = !('a' <= c && c <= 'z' || isDigit(c))
		if !first {
			continue
		}
		for _, ph := range phrases[c] {
			if !hasPrefixFold(message[i:], ph.text) {
				continue
			}
			if ph.kind.class == Retryable {
				return byMessage[ph.kind]
			}
			if found == nil {
				found = byMessage[ph.kind]
			}
		}
	}
	return found
}

// byMessage gives each kind the name that it bears when the message decided.
var byMessage = func() map[*kind]*kind {
	m := make(map[*kind]*kind)
	for _, list := range phrases {
		for _, ph := range list {
			m[ph.kind] = &kind{rule: ph.kind.byMessage, class: ph.kind.class, unhealthy: ph.kind.unhealthy}
		}
	}
	return m
}()
