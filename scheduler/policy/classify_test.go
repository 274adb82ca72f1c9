package policy

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go"
)

func TestClassify_GoesByTheCode(t *testing.T) {
	for want, list := range map[*kind][]string{
		kindTimeout:        {"408", "504", "DEADLINE_EXCEEDED", "timeout", "slow_reply", "CONNECTION_TIMEOUT", "ETIMEDOUT", nats.ErrTimeout.Error()},
		kindNoResponders:   {"no_responders", nats.ErrNoResponders.Error()},
		kindConnection:     {"connection", "CONNECTION_ERROR", "network error", "ECONNREFUSED", nats.ErrConnectionClosed.Error(), nats.ErrStaleConnection.Error(), nats.ErrNoServers.Error(), nats.ErrDisconnected.Error()},
		kindUnavailable:    {"502", "503", "UNAVAILABLE", "SERVICE_UNAVAILABLE", "service-unavailable", "Service Unavailable"},
		kindServerError:    {"500", "501", "505", "599", "INTERNAL"},
		kindExhausted:      {"507", "POOL_EXHAUSTED", nats.ErrSlowConsumer.Error(), nats.ErrMaxConnectionsExceeded.Error()},
		kindRateLimited:    {"429", "RESOURCE_EXHAUSTED", "RATE_LIMIT_EXCEEDED", "rateLimitExceeded"},
		kindConflict:       {"409", "423", "ABORTED"},
		kindTooEarly:       {"425"},
		kindAuthentication: {"401", "407", "UNAUTHENTICATED", "AUTHENTICATION_FAILED", nats.ErrAuthorization.Error(), nats.ErrAuthExpired.Error()},
		kindForbidden:      {"403", "402", "PERMISSION_DENIED", "FORBIDDEN", nats.ErrPermissionViolation.Error()},
		kindNotFound:       {"404", "410", "NOT_FOUND", "RESOURCE_NOT_FOUND"},
		kindInvalid:        {"400", "405", "413", "418", "422", "INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE", "ALREADY_EXISTS", "UNIMPLEMENTED", "DATA_LOSS", "VALIDATION_ERROR", nats.ErrMaxPayload.Error()},
		kindCancelled:      {"499", "CANCELLED", "CANCELED"},
		kindPanic:          {"panic"},
		kindUnknown:        {"", "UNKNOWN", "whatever", "42", "4O4", "200", "9999999999999999999999", strings.Repeat("x", 1000), strings.Repeat("_", 1000), "\x00\xff"},
	} {
		p := usual()
		for _, code := range list {
			f := Failure{Code: code}
			class, rule := p.Classify("billing", f, nil)
			if class != want.class || rule != want.rule || f.Unhealthy() != want.unhealthy {
				t.Errorf("code %.40q is %s by %s, unhealthy %t, want %s by %s, unhealthy %t", code, class, rule, f.Unhealthy(), want.class, want.rule, want.unhealthy)
			}
		}
	}
}

func TestClassify_KnowsEveryStatusOfHTTP(t *testing.T) {
	p := usual()
	retryable := map[int]bool{408: true, 409: true, 423: true, 425: true, 429: true}
	for status := 400; status < 600; status++ {
		class, rule := p.Classify("billing", Failure{Code: strconv.Itoa(status)}, nil)
		want := NotRetryable
		if status >= 500 || retryable[status] {
			want = Retryable
		}
		if class != want {
			t.Errorf("status %d is %s by %s, want %s", status, class, rule, want)
		}
	}
}

func TestClassify_GoesByTheMessageWithoutACode(t *testing.T) {
	for _, tc := range []struct {
		message string
		want    *kind
	}{
		{"context deadline exceeded", kindTimeout},
		{"read tcp 10.0.0.1:80: i/o timeout", kindTimeout},
		{"Request TIMED OUT after 3 s", kindTimeout},
		{nats.ErrNoResponders.Error(), kindNoResponders},
		{fmt.Errorf("dial: %w", syscall.ECONNREFUSED).Error(), kindConnection},
		{errors.New("write: broken pipe").Error(), kindConnection},
		{"rpc error: code = Unavailable desc = upstream", kindUnavailable},
		{"503 Service Unavailable", kindUnavailable},
		{"Too Many Requests", kindRateLimited},
		{"API rate limit exceeded", kindRateLimited},
		{"user not found", kindNotFound},
		{"permission denied", kindForbidden},
		{"authentication failed: bad password", kindAuthentication},
		{"validation failed: amount", kindInvalid},
		{"not found in cache, and the database timed out", kindTimeout},
		{"the database timed out; not found in cache", kindTimeout},
		{"untimeouted", kindUnknown},
		{"something broke", kindUnknown},
		{"", kindUnknown},
		{strings.Repeat("x", maxMessage) + " timeout", kindUnknown},
		{strings.Repeat("é", 3000), kindUnknown},
	} {
		p := usual()
		wantRule := RuleUnknown
		if tc.want != kindUnknown {
			wantRule = "message:" + tc.want.rule
		}
		f := Failure{Message: tc.message}
		class, rule := p.Classify("billing", f, nil)
		if class != tc.want.class || rule != wantRule || f.Unhealthy() != tc.want.unhealthy {
			t.Errorf("message %.60q is %s by %s, unhealthy %t, want %s by %s, unhealthy %t", tc.message, class, rule, f.Unhealthy(), tc.want.class, wantRule, tc.want.unhealthy)
		}
	}
	p := usual()
	if class, rule := p.Classify("billing", Failure{Code: "E17", Message: "user not found"}, nil); class != Retryable || rule != RuleUnknown {
		t.Errorf("an unknown code with a message is %s by %s, want retryable by unknown: words do not overrule a code", class, rule)
	}
}

func TestClassify_RulesDecideBeforeTheTable(t *testing.T) {
	p := parsed(t, `
billing:
  rules:
    - {name: one service, service: shipping, codes: ["404"], class: retryable}
    - {name: code and message, codes: ["404"], message: "not yet*ready", class: retryable}
    - {name: code, codes: [OUT_OF_STOCK, "503"], class: not_retryable}
    - {name: message, message: "Try*again", class: retryable, limit: 2}
    - {name: never reached, message: "try*again", class: not_retryable}
`).Resolve(Query{Service: "billing"})
	for _, tc := range []struct {
		name      string
		service   string
		f         Failure
		seen      map[string]int
		class     Class
		rule      string
		limited   bool
		unhealthy bool
	}{
		{name: "a rule of another service", service: "billing", f: Failure{Code: "404"}, class: NotRetryable, rule: RuleNotFound},
		{name: "a rule of this service", service: "shipping", f: Failure{Code: "404"}, class: Retryable, rule: "one service"},
		{name: "one condition of two", service: "billing", f: Failure{Code: "404", Message: "not ready"}, class: NotRetryable, rule: RuleNotFound},
		{name: "both conditions, another case", service: "billing", f: Failure{Code: "404", Message: "NOT YET quite Ready"}, class: Retryable, rule: "code and message"},
		{name: "pieces in the wrong order", service: "billing", f: Failure{Code: "404", Message: "ready, not yet"}, class: NotRetryable, rule: RuleNotFound},
		{name: "another spelling of a code", service: "billing", f: Failure{Code: "out-of-stock"}, class: NotRetryable, rule: "code", unhealthy: true},
		{name: "a code of the table too", service: "billing", f: Failure{Code: "503"}, class: NotRetryable, rule: "code", unhealthy: true},
		{name: "a limit that is not reached", service: "billing", f: Failure{Code: "400", Message: "please try it again"}, seen: map[string]int{"message": 1}, class: Retryable, rule: "message", limited: true},
		{name: "a limit that is reached", service: "billing", f: Failure{Code: "400", Message: "please try it again"}, seen: map[string]int{"message": 2}, class: NotRetryable, rule: "message"},
		{name: "a text beyond what is looked at", service: "billing", f: Failure{Code: "400", Message: strings.Repeat(" ", maxMessage) + "try again"}, class: NotRetryable, rule: RuleInvalid},
	} {
		got := p.judge(tc.service, tc.f, tc.seen)
		if want := (verdict{tc.class, tc.rule, tc.limited, tc.unhealthy}); got != want {
			t.Errorf("%s: judged as %+v, want %+v", tc.name, got, want)
		}
	}
}

func TestRule_ThatStatesNothingMatchesNothing(t *testing.T) {
	p := usual()
	p.Rules = []Rule{NewRule(Rule{Name: "empty", Class: NotRetryable}), {Name: "not made by NewRule", Codes: []string{"503"}, Class: NotRetryable}}
	if class, rule := p.Classify("billing", Failure{Code: "503"}, nil); class != Retryable || rule != RuleUnavailable {
		t.Errorf("503 is %s by %s, want retryable by unavailable", class, rule)
	}
}

func TestClass_IsAWord(t *testing.T) {
	for _, c := range []Class{Retryable, NotRetryable} {
		if got, err := ParseClass(c.String()); got != c || err != nil {
			t.Errorf("ParseClass(%q) = %s, %v", c, got, err)
		}
	}
	if _, err := ParseClass("maybe"); err == nil {
		t.Error(`ParseClass("maybe") found no issue`)
	}
}

// FuzzClassify gives any failure to the tables and to a rule with a pattern.
func FuzzClassify(f *testing.F) {
	f.Add("503", "no responders", "a*b")
	f.Add("", "validation failed", "é*")
	f.Add("\x00_-_", strings.Repeat("timeou", 300), "t*t*t*t")
	f.Fuzz(func(t *testing.T, code, message, pattern string) {
		p := usual()
		p.Rules = []Rule{NewRule(Rule{Name: "pattern", Message: pattern, Class: NotRetryable})}
		class, rule := p.Classify("billing", Failure{Code: code, Message: message}, nil)
		if rule == "" || rule == "pattern" && class != NotRetryable {
			t.Errorf("code %q, message %q and pattern %q are %s by %q", code, message, pattern, class, rule)
		}
	})
}

func BenchmarkClassify(b *testing.B) {
	ruled := parsed(b, "billing:\n  rules:\n"+strings.Repeat("    - {codes: [SOME_CODE_1, SOME_CODE_2], class: retryable}\n    - {codes: [\"404\"], message: a*b, class: retryable}\n", 10)).Resolve(Query{Service: "billing"})
	session := Builtin().Resolve(Query{Service: "session_manager"})
	plain := usual()
	long := strings.Repeat("lorem ipsum ", 100)
	for _, bc := range []struct {
		name string
		p    *Policy
		f    Failure
	}{
		{"code", &plain, Failure{Code: "SERVICE_UNAVAILABLE", Message: "the card processor is away"}},
		{"message", &plain, Failure{Message: "dial tcp 10.1.2.3:4222: connect: connection refused"}},
		{"long message", &plain, Failure{Message: long}},
		{"session manager", &session, Failure{Code: "503", Message: "the session store is away"}},
		{"session manager, long message", &session, Failure{Code: "503", Message: long}},
		{"20 rules", &ruled, Failure{Code: "503", Message: "the card processor is away"}},
	} {
		b.Run(strings.NewReplacer(" ", "-", ",", "").Replace(bc.name), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				bc.p.judge("billing", bc.f, nil)
			}
		})
	}
}
