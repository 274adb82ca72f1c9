package client

import (
	"context"
	"fmt"
	"io"
	"net"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// Codes that the client itself gives to failures.
const (
	codePanic    = "panic"
	codeTimeout  = "timeout"
	codeCanceled = "canceled"
	codeClosed   = "connection_closed"
	codeLost     = "connection_lost"
	codeNoHost   = "ENOTFOUND"
	codeDNSAgain = "EAI_AGAIN"
	codeOpen     = "CIRCUIT_BREAKER_OPEN"
	codeLimited  = "RATE_LIMIT_EXCEEDED"
)

// failureOf reads an error. The code is the outermost that the tree of wrapped
// errors has; a Retry-After may stand anywhere in it.
func failureOf(err error) (f policy.Failure) {
	defer func() {
		// An error whose methods panic is a bug like a function that panics.
		if p := recover(); p != nil {
			f = policy.Failure{Code: codePanic, Message: oneLine(fmt.Sprintf("an error of type %T panicked: %v", err, p))}
		}
	}()
	f.Message = oneLine(err.Error())
	walk(err, func(e error) bool {
		if f.Code == "" {
			f.Code = oneLine(codeOf(e))
		}
		if f.RetryAfter <= 0 {
			f.RetryAfter = max(retryAfterOf(e), 0)
		}
		return f.Code == "" || f.RetryAfter == 0
	})
	return f
}

// walk calls visit for err and all that it wraps, the outer first, until it
// returns false.
func walk(err error, visit func(error) bool) bool {
	for err != nil {
		if !visit(err) {
			return false
		}
		switch wrapper := err.(type) { //nolint:errorlint // the tree is walked by hand
		case interface{ Unwrap() error }:
			err = wrapper.Unwrap()
		case interface{ Unwrap() []error }:
			for _, e := range wrapper.Unwrap() {
				if !walk(e, visit) {
					return false
				}
			}
			return true
		default:
			return true
		}
	}
	return true
}

func retryAfterOf(err error) time.Duration {
	switch e := err.(type) { //nolint:errorlint // see walk
	case *Error:
		return e.RetryAfter
	case interface{ RetryAfter() time.Duration }:
		return e.RetryAfter()
	}
	return 0
}

// codeOf returns the code that one error of a tree has, empty for none.
func codeOf(err error) string {
	switch e := err.(type) { //nolint:errorlint // see walk
	case *Error:
		return e.Code
	case *PanicError:
		return codePanic
	case *BreakerOpenError:
		return codeOpen
	case *RateLimitedError:
		return codeLimited
	case interface{ ErrorCode() string }: // the AWS SDK
		return e.ErrorCode()
	case interface{ HTTPStatusCode() int }: // the AWS SDK
		return statusCode(e.HTTPStatusCode())
	case interface{ StatusCode() int }:
		return statusCode(e.StatusCode())
	case *jetstream.APIError:
		return statusCode(e.Code)
	case syscall.Errno:
		return errnoCode(e)
	case *net.DNSError:
		return dnsCode(e)
	}
	if code := codeOfValue(err); code != "" {
		return code
	}
	if code := methodCode(err); code != "" {
		return code
	}
	if e, ok := err.(interface{ Timeout() bool }); ok && e.Timeout() { //nolint:errorlint // see walk
		return codeTimeout
	}
	if text := err.Error(); strings.HasPrefix(text, "nats: ") && len(text) <= events.MaxCode {
		return text // the texts of the client's errors are codes of the built-in table
	}
	return ""
}

// codeOfValue knows errors that are values.
func codeOfValue(err error) string {
	switch err { //nolint:errorlint // see walk
	case context.DeadlineExceeded:
		return codeTimeout
	case context.Canceled:
		return codeCanceled
	case net.ErrClosed:
		return codeClosed
	case io.ErrUnexpectedEOF:
		return codeLost
	}
	return ""
}

// methodCode reads the code of errors whose types need not be known: those with
// a method Code that returns a text, a number or something that has a name, as
// Connect and Twirp have it, and those with a method GRPCStatus whose result has
// such a method Code.
func methodCode(err error) string {
	v := reflect.ValueOf(err)
	if status, ok := result(v, "GRPCStatus"); ok {
		v = status
	}
	code, ok := result(v, "Code")
	if !ok {
		return ""
	}
	if s, ok := code.Interface().(fmt.Stringer); ok {
		return s.String()
	}
	switch {
	case code.Kind() == reflect.String:
		return code.String()
	case code.CanInt():
		return statusCode(int(code.Int()))
	}
	return ""
}

// result calls a method that takes nothing and returns one value.
func result(v reflect.Value, name string) (reflect.Value, bool) {
	m := v.MethodByName(name)
	if !m.IsValid() || m.Type().NumIn() != 0 || m.Type().NumOut() != 1 {
		return reflect.Value{}, false
	}
	return m.Call(nil)[0], true
}

// statusCode takes a number for a status of HTTP, and none that is no failure.
func statusCode(n int) string {
	if n < 400 || n > 599 {
		return ""
	}
	return strconv.Itoa(n)
}

func dnsCode(e *net.DNSError) string {
	switch {
	case e.IsTimeout:
		return codeTimeout
	case e.IsTemporary:
		return codeDNSAgain
	}
	return codeNoHost
}

// errnos are the system errors that the built-in table knows.
var errnos = map[syscall.Errno]string{
	syscall.ECONNREFUSED: "ECONNREFUSED", syscall.ECONNRESET: "ECONNRESET", syscall.ECONNABORTED: "ECONNABORTED",
	syscall.EPIPE: "EPIPE", syscall.EHOSTUNREACH: "EHOSTUNREACH", syscall.ENETUNREACH: "ENETUNREACH",
	syscall.ENETDOWN: "ENETDOWN", syscall.ETIMEDOUT: "ETIMEDOUT", syscall.EMFILE: "EMFILE", syscall.ENFILE: "ENFILE",
	syscall.ENOMEM: "ENOMEM", syscall.EAGAIN: "EAGAIN", syscall.EBUSY: "EBUSY", syscall.EACCES: "EACCES",
	syscall.EPERM: "EPERM", syscall.ENOENT: "ENOENT", syscall.EINVAL: "EINVAL",
}

func errnoCode(e syscall.Errno) string { return errnos[e] }

// oneLine makes a text fit for events, headers and attributes: one line of
// printable characters, no longer than events tell.
func oneLine(s string) string {
	s = strings.ToValidUTF8(s, "�")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) <= events.MaxError {
		return s
	}
	return cut(s, events.MaxError-len("…")) + "…"
}

// cut returns at most the first limit bytes of s, in whole characters.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}
