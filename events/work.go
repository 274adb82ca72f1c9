package events

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
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
	// Counted is whether who must know of the attempt was told of it by its maker.
	Counted bool `json:"counted,omitempty"`
}

// Knows reports whether token is that of the work. It takes the same time for
// every wrong token.
func (w *Work) Knows(token string) bool {
	return subtle.ConstantTimeCompare([]byte(w.Token), []byte(token)) == 1
}

// put writes the work into a header.
func (w *Work) put(h nats.Header) error {
	text, err := json.Marshal(w)
	if err != nil {
		return fmt.Errorf("encoding the work: %w", err)
	}
	h[HeaderWork] = []string{string(text)}
	return nil
}

// workFrom reads what [Work.put] wrote, nil when nothing was.
func workFrom(h nats.Header) (*Work, error) {
	text := h[HeaderWork]
	if len(text) == 0 {
		return nil, nil
	}
	w := new(Work)
	if err := json.Unmarshal([]byte(text[0]), w); err != nil {
		return nil, fmt.Errorf("decoding the %s header: %w", HeaderWork, err)
	}
	if w.Token == "" || w.Attempt < 1 || w.Attempt > math.MaxInt32 {
		return nil, fmt.Errorf("%s header is incomplete", HeaderWork)
	}
	return w, nil
}

// WorkHeader returns the headers that a worker receives: those of every target,
// and those that it needs to report. timeout is how long the worker may be silent.
func (o *Operation) WorkHeader(submission nats.Header, subjects Subjects, timeout time.Duration) nats.Header {
	h := o.TargetHeader(submission, o.Work.Attempt, o.Work.Attempt <= o.Repeats)
	h[HeaderToken] = []string{o.Work.Token}
	h[HeaderReport] = []string{subjects.Report(o.Service, o.Operation)}
	h[HeaderTimeout] = []string{strconv.FormatInt(timeout.Milliseconds(), 10)}
	h[jetstream.MsgIDHeader] = []string{o.Run() + "." + strconv.Itoa(o.Work.Attempt) + ".work"}
	return h
}
