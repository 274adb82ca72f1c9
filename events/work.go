package events

import (
	"crypto/subtle"
	"time"
)

// Publish is a JetStream publish to the target. A worker takes the operation from
// a stream and reports how the attempt went, see [Report].
const Publish Delivery = "publish"

// Work is an attempt that a worker makes: the operation was published to its
// target, and a report on it is waited for. It travels beside the operation's
// state in [HeaderWork].
type Work struct {
	// Token is known to nobody but who has seen the message that the worker has.
	Token string `json:"token"`
	// Attempt is the attempt's number, Target where it was published and Started
	// when.
	Attempt int       `json:"attempt"`
	Target  string    `json:"target"`
	Started time.Time `json:"started"`
	// Generation and Probe are what the breaker of the key knows of the attempt;
	// see [breaker.Ticket].
	Generation uint64 `json:"generation,omitempty"`
	Probe      string `json:"probe,omitempty"`
	// Result is how the attempt ended, nil while that is not known.
	Result *WorkResult `json:"result,omitempty"`
}

// WorkResult is how a worker's attempt ended.
type WorkResult struct {
	// At is when that was known.
	At     time.Time `json:"at"`
	Failed bool      `json:"failed,omitempty"`
	// Code and Error say how it failed, RetryAfter when to come back at the
	// earliest, zero when that does not matter.
	Code       string    `json:"code,omitempty"`
	Error      string    `json:"error,omitempty"`
	RetryAfter time.Time `json:"retryAfter,omitzero"`
	// Counted is whether the instance that made the attempt has counted its result.
	Counted bool `json:"counted,omitempty"`
}

// Knows reports whether token is that of the work. It takes the same time for
// every wrong token.
func (w *Work) Knows(token string) bool {
	return subtle.ConstantTimeCompare([]byte(w.Token), []byte(token)) == 1
}
