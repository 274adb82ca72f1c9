package events

import (
	"crypto/subtle"
	"time"
)

// Publish delivers by a JetStream publish to the target. A worker takes the operation from a
// stream and reports the result, see [Report].
const Publish Delivery = "publish"

// Work is an attempt that a worker makes: the operation was published to its target, and Rebound
// waits for a report. It is stored beside the operation's state in [HeaderWork].
type Work struct {
	// Token authenticates reports; only readers of the worker's message know it.
	Token string `json:"token"`
	// Attempt is the attempt's number, Target the subject it was published to, and Started the
	// time.
	Attempt int       `json:"attempt"`
	Target  string    `json:"target"`
	Started time.Time `json:"started"`
	// Generation and Probe identify the attempt to the breaker of the key; see [breaker.Ticket].
	Generation uint64 `json:"generation,omitempty"`
	Probe      string `json:"probe,omitempty"`
	// Result is how the attempt ended, nil while unknown.
	Result *WorkResult `json:"result,omitempty"`
}

// WorkResult is how a worker's attempt ended.
type WorkResult struct {
	// At is when the result became known.
	At     time.Time `json:"at"`
	Failed bool      `json:"failed,omitempty"`
	// Code and Error describe the failure, RetryAfter the earliest time for the next attempt,
	// zero for none.
	Code       string    `json:"code,omitempty"`
	Error      string    `json:"error,omitempty"`
	RetryAfter time.Time `json:"retryAfter,omitzero"`
	// Counted reports whether the instance that made the attempt has counted its result.
	Counted bool `json:"counted,omitempty"`
}

// HasToken reports whether token is the token of the work, in constant time.
func (w *Work) HasToken(token string) bool {
	return subtle.ConstantTimeCompare([]byte(w.Token), []byte(token)) == 1
}
