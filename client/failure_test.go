package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"pgregory.net/rapid"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// Errors shaped like those of other libraries, by their methods.

type grpcCode uint32

func (c grpcCode) String() string {
	return map[grpcCode]string{8: "ResourceExhausted", 14: "Unavailable"}[c]
}

type grpcStatus struct{ code grpcCode }

func (s *grpcStatus) Code() grpcCode { return s.code }

type grpcError struct{ status *grpcStatus }

func (e grpcError) Error() string           { return "rpc error" }
func (e grpcError) GRPCStatus() *grpcStatus { return e.status }

type connectError struct{}

func (connectError) Error() string  { return "connect" }
func (connectError) Code() grpcCode { return 14 }

type twirpCode string

type twirpError struct{}

func (twirpError) Error() string   { return "twirp" }
func (twirpError) Code() twirpCode { return "permission_denied" }

type awsError struct{}

func (awsError) Error() string             { return "aws" }
func (awsError) ErrorCode() string         { return "ThrottlingException" }
func (awsError) RetryAfter() time.Duration { return 3 * time.Second }

type httpError int

func (e httpError) Error() string       { return "http" }
func (e httpError) HTTPStatusCode() int { return int(e) }

type statusError int

func (e statusError) Error() string   { return "status" }
func (e statusError) StatusCode() int { return int(e) }

// exitError has a method Code that returns an exit status, which is no code of a request.
type exitError struct{}

func (exitError) Error() string { return "exit" }
func (exitError) Code() int     { return 1 }

type oddError struct{}

func (oddError) Error() string        { return "odd" }
func (oddError) Code(int) (int, bool) { return 404, true }

type nilError struct{ text string }

func (e *nilError) Error() string { return e.text }

func TestFailureOf_ReadsTheCode(t *testing.T) {
	for name, tc := range map[string]struct {
		err  error
		code string
		rule string
	}{
		"an error with a code":             {&Error{Code: "429"}, "429", policy.RuleRateLimited},
		"a code that wraps another error":  {fmt.Errorf("charging: %w", &Error{Code: "FORBIDDEN", Err: io.EOF}), "FORBIDDEN", policy.RuleForbidden},
		"the outermost of two codes":       {&Error{Code: "503", Err: &Error{Code: "404"}}, "503", policy.RuleUnavailable},
		"a code in a join":                 {errors.Join(errors.New("a"), errors.Join(errors.New("b"), &Error{Code: "404"})), "404", policy.RuleNotFound},
		"gRPC":                             {fmt.Errorf("calling: %w", grpcError{&grpcStatus{8}}), "ResourceExhausted", policy.RuleRateLimited},
		"Connect":                          {connectError{}, "Unavailable", policy.RuleUnavailable},
		"Twirp":                            {twirpError{}, "permission_denied", policy.RuleForbidden},
		"the AWS SDK":                      {awsError{}, "ThrottlingException", policy.RuleRateLimited},
		"a status of HTTP":                 {httpError(404), "404", policy.RuleNotFound},
		"another status of HTTP":           {statusError(502), "502", policy.RuleUnavailable},
		"a status that is no failure":      {statusError(200), "", policy.RuleUnknown},
		"a Code that is no status":         {exitError{}, "", policy.RuleUnknown},
		"a Code that takes arguments":      {oddError{}, "", policy.RuleUnknown},
		"a deadline":                       {context.DeadlineExceeded, "timeout", policy.RuleTimeout},
		"a cancellation":                   {fmt.Errorf("x: %w", context.Canceled), "canceled", policy.RuleCancelled},
		"a deadline of the network":        {&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, "timeout", policy.RuleTimeout},
		"a refused connection":             {&url.Error{Op: "Get", URL: "http://x", Err: &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}}, "ECONNREFUSED", policy.RuleConnection},
		"an unknown host":                  {&net.DNSError{Err: "no such host", IsNotFound: true}, "ENOTFOUND", policy.RuleConnection},
		"a name server that is away":       {&net.DNSError{Err: "server misbehaving", IsTemporary: true}, "EAI_AGAIN", policy.RuleConnection},
		"a connection that broke off":      {io.ErrUnexpectedEOF, "connection_lost", policy.RuleConnection},
		"a closed connection":              {net.ErrClosed, "connection_closed", policy.RuleConnection},
		"nobody listening on NATS":         {fmt.Errorf("asking: %w", nats.ErrNoResponders), "nats: no responders available for request", policy.RuleNoResponders},
		"a timeout of NATS":                {nats.ErrTimeout, "nats: timeout", policy.RuleTimeout},
		"JetStream":                        {&jetstream.APIError{Code: 503, ErrorCode: 10077}, "503", policy.RuleUnavailable},
		"a panic":                          {newPanicError("x"), "panic", policy.RulePanic},
		"an error that panics":             {(*nilError)(nil), "panic", policy.RulePanic},
		"the breaker of another Execute":   {&BreakerOpenError{FailedCall: FailedCall{Last: &Error{Code: "404"}, Attempts: 1}}, "CIRCUIT_BREAKER_OPEN", policy.RuleUnavailable},
		"the budget of another Execute":    {&RateLimitedError{FailedCall: FailedCall{Last: &Error{Code: "404"}, Attempts: 1}}, "RATE_LIMIT_EXCEEDED", policy.RuleRateLimited},
		"words in the message":             {errors.New("pool exhausted"), "", "message:" + policy.RuleExhausted},
		"nothing known":                    {errors.New("hm"), "", policy.RuleUnknown},
		"NotRetryable over an error's own": {NotRetryable(&Error{Code: "503"}), "invalid", policy.RuleInvalid},
		"RetryAfter with an error's own":   {RetryAfter(&Error{Code: "429"}, time.Second), "429", policy.RuleRateLimited},
		"a reply of a NATS micro service":  {ErrorFromReply(&nats.Msg{Header: nats.Header{"Nats-Service-Error-Code": {"409"}, "Nats-Service-Error": {"busy"}}}), "409", policy.RuleConflict},
		"a response of an HTTP server":     {ErrorFromResponse(&http.Response{StatusCode: http.StatusTooEarly}), "425", policy.RuleTooEarly},
		"a code too long to be any":        {errors.New("nats: " + strings.Repeat("x", 200)), "", policy.RuleUnknown},
		"a code with line breaks":          {&Error{Code: "4\r\n04"}, "4 04", policy.RuleNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			f := failureOf(tc.err)
			_, rule := (&policy.Policy{}).Classify("a", f, nil)
			if f.Code != tc.code || rule != tc.rule {
				t.Errorf("%v has code %q, by rule %s, want %q, by rule %s", tc.err, f.Code, rule, tc.code, tc.rule)
			}
		})
	}
}

func TestFailureOf_ReadsARetryAfterAnywhereInTheTree(t *testing.T) {
	for name, tc := range map[string]struct {
		err  error
		want time.Duration
	}{
		"none":              {errors.New("x"), 0},
		"of an Error":       {&Error{Code: "429", RetryAfter: time.Minute}, time.Minute},
		"beneath a code":    {&Error{Code: "429", Err: awsError{}}, 3 * time.Second},
		"above a code":      {RetryAfter(fmt.Errorf("x: %w", awsError{}), time.Hour), time.Hour},
		"negative":          {RetryAfter(errors.New("x"), -time.Hour), 0},
		"of a reply":        {ErrorFromReply(&nats.Msg{Header: nats.Header{"Nats-Service-Error": {"busy"}, "retry-after": {"90"}}}), 90 * time.Second},
		"that is no time":   {ErrorFromReply(&nats.Msg{Header: nats.Header{"Nats-Service-Error": {"busy"}, "Retry-After": {"soon"}}}), 0},
		"of a response":     {ErrorFromResponse(&http.Response{StatusCode: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {"7"}}}), 7 * time.Second},
		"with NotRetryable": {NotRetryable(&Error{RetryAfter: time.Second}), time.Second},
	} {
		// By now, a Retry-After given as a time is some nanoseconds shorter.
		if got := failureOf(tc.err).RetryAfter; got > tc.want || got < tc.want-time.Second {
			t.Errorf("%s: Retry-After is %v, want %v", name, got, tc.want)
		}
	}
}

func TestErrorFrom_NoFailureIsNoError(t *testing.T) {
	for name, err := range map[string]error{
		"NotRetryable(nil)": NotRetryable(nil), "RetryAfter(nil)": RetryAfter(nil, time.Second),
		"a reply without error headers": ErrorFromReply(&nats.Msg{}), "a response of status 204": ErrorFromResponse(&http.Response{StatusCode: http.StatusNoContent}),
	} {
		if err != nil {
			t.Errorf("%s is %v, want nil", name, err)
		}
	}
}

// Whatever an error contains, its failure fits into events, headers and attributes.
func TestFailureOf_FitsEverywhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringN(0, 2000, -1), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
		f := failureOf(&Error{Code: text.Draw(t, "code"), Message: text.Draw(t, "message")})
		for what, s := range map[string]string{"code": f.Code, "message": f.Message} {
			if len(s) > events.MaxError || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) || s != strings.TrimSpace(s) {
				t.Fatalf("the %s is %q, want one line of valid text of at most %d bytes", what, s, events.MaxError)
			}
		}
	})
}
