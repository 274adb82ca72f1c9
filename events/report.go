package events

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/rebound-mq/rebound/internal/clip"
)

// TypeReport is the CloudEvents type of a worker's report on an attempt.
const TypeReport = "rebound.report.v1"

// Result is what a worker reports of an attempt.
type Result string

// The results of a report.
const (
	// Succeeded and Failed end the attempt.
	Succeeded Result = "success"
	Failed    Result = "failure"
	// Working means that the worker is alive and has not finished.
	Working Result = "working"
)

// Results lists the results.
var Results = []Result{Succeeded, Failed, Working}

const (
	maxToken = 128
	// MaxRetryAfter is the longest time that a worker may ask for.
	MaxRetryAfter = 366 * 24 * time.Hour
)

// Report is the data of rebound.report.v1: a worker's report on an attempt.
type Report struct {
	// ID, Attempt and Token are Retry-Id, Retry-Attempt and Retry-Token of the worker's message.
	ID      string `json:"id"`
	Attempt int    `json:"attempt"`
	Token   string `json:"token"`
	Result  Result `json:"result"`
	// Code and Error describe the failure. They are clipped to [MaxCode] and [MaxError] bytes.
	Code  string `json:"code,omitempty"`
	Error string `json:"error,omitempty"`
	// RetryAfterMs is the shortest time from the report to the next attempt, in milliseconds, at
	// most 366 days.
	RetryAfterMs float64 `json:"retryAfterMs,omitempty"`
}

// Check reports every problem of a report.
func (r Report) Check() error {
	var errs []error
	if !IsOperationID(r.ID) {
		errs = append(errs, fmt.Errorf("id %q is no operation's; it is the %s of the message", clip.Text(r.ID, 80), HeaderID))
	}
	if r.Attempt < 1 || r.Attempt > math.MaxInt32 {
		errs = append(errs, fmt.Errorf("attempt %d is no attempt's number; it is the %s of the message", r.Attempt, HeaderAttempt))
	}
	if r.Token == "" || len(r.Token) > maxToken {
		errs = append(errs, fmt.Errorf("the token is missing or too long; it is the %s of the message", HeaderToken))
	}
	if !slices.Contains(Results, r.Result) {
		errs = append(errs, fmt.Errorf("result %q is none of success, failure and working", clip.Text(string(r.Result), 80)))
	}
	if r.RetryAfterMs < 0 || r.RetryAfterMs > InMilliseconds(MaxRetryAfter) {
		errs = append(errs, errors.New("retryAfterMs is not between 0 and 366 days"))
	}
	if r.Result != Failed && (r.Code != "" || r.Error != "" || r.RetryAfterMs != 0) {
		errs = append(errs, fmt.Errorf("a report of %s tells of an error", clip.Text(string(r.Result), 80)))
	}
	return errors.Join(errs...)
}

// Clipped returns r with Code and Error clipped to their bounds.
func (r Report) Clipped() Report {
	r.Code, r.Error = clip.Text(clip.Line(clip.UTF8(r.Code)), MaxCode), clip.Text(clip.Line(clip.UTF8(r.Error)), MaxError)
	return r
}

// IsOperationID reports whether id looks like an [OperationID].
func IsOperationID(id string) bool {
	return len(id) == 32 && strings.Trim(id, "0123456789abcdef") == ""
}
