package events

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/rebound-mq/rebound/internal/clip"
)

// Delivery says how an operation reaches its target.
type Delivery string

// Request is a NATS request whose reply is the outcome of the attempt.
const Request Delivery = "request"

// Operation is one unit of work that failed at its service and may be tried
// again. It holds the CloudEvents attributes and the state of the retrying; the
// payload and the headers of the submission stay beside it, unread.
//
// An Operation is a plain value with no lock. Its JSON form travels in
// [HeaderState].
type Operation struct {
	// ID stands for source, event id, service and operation type in subjects
	// and message ids: 32 hexadecimal digits, see [OperationID].
	ID string `json:"id"`

	EventID     string `json:"eventId"`
	Source      string `json:"source"`
	Type        string `json:"type,omitempty"`
	Subject     string `json:"subject,omitempty"`
	Service     string `json:"service"`
	Operation   string `json:"operation"`
	Account     string `json:"accountId,omitempty"`
	Campaign    string `json:"campaignId,omitempty"`
	TraceParent string `json:"traceparent,omitempty"`

	// Origin is where the operation was found, nil when a service submitted it.
	Origin *Origin `json:"origin,omitempty"`

	// Target is the subject that the submission asks for, empty for the
	// policy's.
	Target   string   `json:"target,omitempty"`
	Delivery Delivery `json:"delivery,omitempty"`
	Priority Priority `json:"priority"`
	// PriorityGiven is whether the submission named its priority itself.
	PriorityGiven bool `json:"priorityGiven,omitempty"`
	// Overrides are the policy overrides of the submission, as given.
	Overrides map[string]string `json:"overrides,omitempty"`

	// Attempt counts the attempts made so far, the one that failed before
	// Rebound heard of the operation included. It is at least 1, but 0 on a
	// replay until its first attempt.
	Attempt int `json:"attempt"`
	// RetryAfter is when the target itself said to come back at the earliest.
	RetryAfter time.Time `json:"retryAfter,omitzero"`
	// Deadline is when the operation is of no more use; zero means never.
	Deadline     time.Time `json:"deadline,omitzero"`
	FirstFailure time.Time `json:"firstFailure"`
	Submitted    time.Time `json:"submitted"`
	// Ahead is the sequence of the submission in the intake stream while it may
	// still be there, because the operation was taken in before its turn; else 0.
	// It must be gone before the first attempt is made.
	Ahead uint64 `json:"ahead,omitempty"`
	// Dead is the dead letter that this run replays while it may still be there, else
	// nil. It must be gone before the first attempt is made.
	Dead *Grave `json:"dead,omitempty"`
	// Due is when the next attempt is to be made.
	Due time.Time `json:"due,omitzero"`
	// Replay is how often the operation came back from the dead letters.
	Replay int `json:"replay,omitempty"`
	// Repeats is the number of the last attempt that may have been made before, by an
	// instance that died or stood still, 0 for none and [AnyAttempt] when that is not
	// known.
	Repeats int `json:"repeats,omitempty"`
	// Contested is since when another instance may have had this run as well, zero
	// when none may. An outcome published since then outweighs its state.
	Contested time.Time `json:"contested,omitzero"`

	// RuleUses counts how often each limited classification rule decided for
	// this run, by the rule's name.
	RuleUses map[string]int `json:"ruleUses,omitempty"`

	// History tells the attempts, oldest first. Omitted counts those left out
	// of its middle to keep it within [MaxHistory].
	History []Attempt `json:"history,omitempty"`
	Omitted int       `json:"omitted,omitempty"`

	// Work is the attempt that a worker makes, nil while none does.
	Work *Work `json:"-"`
}

// Origin says where an operation comes from that no service submitted: a message
// that a JetStream consumer gave up.
type Origin struct {
	Stream   string `json:"stream"`
	Consumer string `json:"consumer"`
	// Sequence is the message's in its stream.
	Sequence uint64 `json:"sequence"`
	// Subject is the one that the message was published on, empty when the
	// message was gone before it could be read.
	Subject string `json:"subject,omitempty"`
}

// Gone reports whether the message was no longer in its stream, so that its
// payload is lost.
func (o *Origin) Gone() bool { return o.Subject == "" }

// Grave names a dead letter for ever: a stream that is made anew counts from 1 again.
type Grave struct {
	// Sequence is the dead letter's sequence in its stream.
	Sequence uint64    `json:"sequence"`
	DiedAt   time.Time `json:"diedAt"`
}

// Is reports whether g and other name the same dead letter.
func (g *Grave) Is(other *Grave) bool {
	return g != nil && other != nil && g.Sequence == other.Sequence && g.DiedAt.Equal(other.DiedAt)
}

// Attempt tells one attempt that failed and what was decided upon it.
type Attempt struct {
	// Number counts from 1.
	Number int       `json:"attempt"`
	At     time.Time `json:"at"`
	// DurationMs is how long the attempt took, in milliseconds.
	DurationMs float64 `json:"durationMs"`
	// Code and Error say how it failed, cut off after [MaxCode] and [MaxError]
	// bytes.
	Code  string `json:"code,omitempty"`
	Error string `json:"error,omitempty"`
	// Class and Rule say how the failure was classified and by which rule.
	Class string `json:"class,omitempty"`
	Rule  string `json:"rule,omitempty"`
	// DelayMs and Strategy say how long the operation then waited, in
	// milliseconds, and why. Both are empty after the last attempt.
	DelayMs  float64 `json:"delayMs,omitempty"`
	Strategy string  `json:"strategy,omitempty"`
	// Repeated is whether the attempt may have been made twice, because the
	// instance that made it died before it stored the conclusion.
	Repeated bool `json:"repeated,omitempty"`
	// Replay says to which run of the operation the attempt belongs.
	Replay int `json:"replay,omitempty"`
}

// AnyAttempt is an [Operation.Repeats] that stands for every attempt of the run.
const AnyAttempt = math.MaxInt32

// Bounds of what an operation carries with it, so that its state always fits
// into the headers of a message (64 KiB).
const (
	MaxHistory = 32
	MaxError   = 256
	MaxCode    = 128
	// keptFirst is how many of the earliest attempts a full history keeps.
	keptFirst = 4
)

// OperationID returns the id of an operation: the first 128 bits of the
// SHA-256 over its source, event id, service and operation type, in
// hexadecimal. An operation is its source and event id together, within its
// key; the four are length-prefixed, so no two operations share an id by
// concatenation.
func OperationID(source, eventID, service, operation string) string {
	h := sha256.New()
	for _, part := range []string{source, eventID, service, operation} {
		_, _ = fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Key returns service:operation, what a breaker, a budget, a lane and
// statistics belong to.
func (o *Operation) Key() string { return Key(o.Service, o.Operation) }

// Run identifies one run of the operation, from submission or replay to its
// outcome.
func (o *Operation) Run() string { return o.ID + "." + strconv.Itoa(o.Replay) }

// MessageID returns the deterministic message id of something that is
// published about the operation, so that a repeat is recognised by JetStream.
func (o *Operation) MessageID(what string) string {
	return o.Run() + "." + strconv.Itoa(o.Attempt) + "." + what
}

// OutcomeID returns the message id of the outcome of this run. It does not
// depend on the attempt, because a run has one outcome.
func (o *Operation) OutcomeID() string { return o.Run() + ".outcome" }

// PreviousDelay returns the delay before the latest attempt of this run, zero
// if there was none.
func (o *Operation) PreviousDelay() time.Duration {
	for i := len(o.History) - 1; i >= 0; i-- {
		if a := o.History[i]; a.Replay == o.Replay && a.DelayMs > 0 {
			return Milliseconds(a.DelayMs)
		}
	}
	return 0
}

// Record appends an attempt to the history, clipped to the bounds.
func (o *Operation) Record(a Attempt) {
	a.Replay = o.Replay
	a.Error = clip.Text(clip.UTF8(a.Error), MaxError)
	a.Code = clip.Text(clip.UTF8(a.Code), MaxCode)
	if len(o.History) >= MaxHistory {
		o.History = slices.Delete(o.History, keptFirst, keptFirst+1)
		o.Omitted++
	}
	o.History = append(o.History, a)
}

// Continue takes over the history of an earlier submission of the same
// operation, which o replaces.
func (o *Operation) Continue(earlier *Operation) {
	own := o.History
	o.History, o.Omitted = slices.Clone(earlier.History), earlier.Omitted
	for _, a := range own {
		o.Record(a)
	}
	o.RuleUses = earlier.RuleUses
	o.Submitted, o.Ahead = earlier.Submitted, earlier.Ahead
	if earlier.FirstFailure.Before(o.FirstFailure) {
		o.FirstFailure = earlier.FirstFailure
	}
}

// Restart makes a dead letter's operation a fresh one at that time: its attempts
// count anew and the bounds that it outlived are gone. The history stays.
func (o *Operation) Restart(at time.Time) {
	o.Replay++
	o.Attempt = 0
	o.RuleUses = nil
	o.Repeats, o.Contested = 0, time.Time{}
	o.Deadline, o.RetryAfter = time.Time{}, time.Time{}
	o.FirstFailure, o.Submitted, o.Due = at.UTC(), at.UTC(), at.UTC()
}

// Contest notes that another instance may have had this run as well, since a time at
// the latest.
func (o *Operation) Contest(since time.Time) {
	if o.Contested.IsZero() || since.Before(o.Contested) {
		o.Contested = since.UTC()
	}
}

// Fork notes that another instance may have gone on with this run, since a time at
// the latest, and made any of the attempts that follow.
func (o *Operation) Fork(since time.Time) {
	o.Contest(since)
	o.Repeats = AnyAttempt
}

// Waits returns since when the operation waits for its next attempt: since its last one
// ended, or since this run began. It may have been stored a little later.
func (o *Operation) Waits() time.Time {
	if last, ok := o.Last(); ok && last.Replay == o.Replay && o.Attempt > 1 {
		return last.At.Add(Milliseconds(last.DurationMs))
	}
	return o.Submitted
}

// Last returns the latest attempt of the history; ok is false when there is
// none.
func (o *Operation) Last() (a Attempt, ok bool) {
	if len(o.History) == 0 {
		return Attempt{}, false
	}
	return o.History[len(o.History)-1], true
}

// Milliseconds converts a figure of an event to a duration.
func Milliseconds(ms float64) time.Duration {
	return time.Duration(ms * float64(time.Millisecond))
}

// InMilliseconds converts a duration to a figure of an event, with a
// microsecond's precision.
func InMilliseconds(d time.Duration) float64 {
	return float64(d.Microseconds()) / 1000
}
