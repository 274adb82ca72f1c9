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

// Codes that the client itself assigns to failures.
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

// failureOf reads an error. It takes the outermost code in the tree of wrapped errors, and a
// Retry-After from anywhere in it.
func failureOf(err error) (f policy.Failure) {
	defer func() {
		// A method of the error that panics is a bug, like a function that panics.
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

// walk calls visit for err and everything that it wraps, outermost first, until visit returns
// false.
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

// codeOf returns the code of one error of a tree, empty for none.
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
		return text // the built-in table has the texts of the NATS client's errors as codes
	}
	return ""
}

// codeOfValue returns the code of errors that are single values.
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

// methodCode reads the code of errors by reflection, so that their packages need not be imported:
// errors with a method Code that returns a string, an integer or a Stringer, as in Connect and
// Twirp, and errors with a method GRPCStatus whose result has such a method.
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

// result calls a method that has no parameters and returns one value.
func result(v reflect.Value, name string) (reflect.Value, bool) {
	m := v.MethodByName(name)
	if !m.IsValid() || m.Type().NumIn() != 0 || m.Type().NumOut() != 1 {
		return reflect.Value{}, false
	}
	return m.Call(nil)[0], true
}

// statusCode formats an HTTP status; it returns "" for a number that is not a failure status.
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

// errnos are the system errors in the built-in table.
var errnos = map[syscall.Errno]string{
	syscall.ECONNREFUSED: "ECONNREFUSED", syscall.ECONNRESET: "ECONNRESET", syscall.ECONNABORTED: "ECONNABORTED",
	syscall.EPIPE: "EPIPE", syscall.EHOSTUNREACH: "EHOSTUNREACH", syscall.ENETUNREACH: "ENETUNREACH",
	syscall.ENETDOWN: "ENETDOWN", syscall.ETIMEDOUT: "ETIMEDOUT", syscall.EMFILE: "EMFILE", syscall.ENFILE: "ENFILE",
	syscall.ENOMEM: "ENOMEM", syscall.EAGAIN: "EAGAIN", syscall.EBUSY: "EBUSY", syscall.EACCES: "EACCES",
	syscall.EPERM: "EPERM", syscall.ENOENT: "ENOENT", syscall.EINVAL: "EINVAL",
}

func errnoCode(e syscall.Errno) string { return errnos[e] }

// oneLine makes a text fit for events, headers and attributes: one line of printable characters
// of at most events.MaxError bytes.
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

// cut returns at most the first limit bytes of s without splitting a character.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}
