package events

import (
	"crypto/sha256"
	"encoding/hex"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/rebound-mq/rebound/internal/clip"
)

// Delivery is how an operation reaches its target.
type Delivery string

// Request delivers by a NATS request; the reply decides the attempt.
const Request Delivery = "request"

// Operation is one unit of work that failed at its service and may be tried again. It holds the
// CloudEvents attributes and the state of the retries, but not the payload and headers of the
// submission, which Rebound does not read.
//
// An Operation is a plain value without a lock. Its JSON form is the [HeaderState].
type Operation struct {
	// ID identifies source, event id, service and operation type in subjects and message ids: 32
	// hexadecimal digits, see [OperationID].
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

	// Origin is set if the operation was adopted from a consumer, not submitted.
	Origin *Origin `json:"origin,omitempty"`

	// Target is the subject named by the submission, empty for the policy's.
	Target string `json:"target,omitempty"`
	// Delivery is empty until a policy is asked for it.
	Delivery Delivery `json:"delivery,omitempty"`
	Priority Priority `json:"priority"`
	// PriorityGiven reports whether the submission named a priority.
	PriorityGiven bool `json:"priorityGiven,omitempty"`
	// Overrides are the policy overrides of the submission, as given.
	Overrides map[string]string `json:"overrides,omitempty"`

	// Attempt counts the attempts so far, including the one that failed before the submission. It
	// is at least 1, except on a replay, where it is 0 until the first attempt.
	Attempt int `json:"attempt"`
	// RetryAfter is the earliest time for the next attempt that the target asked for.
	RetryAfter time.Time `json:"retryAfter,omitzero"`
	// Deadline is when the operation becomes useless; zero means never.
	Deadline     time.Time `json:"deadline,omitzero"`
	FirstFailure time.Time `json:"firstFailure"`
	Submitted    time.Time `json:"submitted"`
	// Ahead is the sequence of the submission in the intake stream if the operation was taken in
	// before its turn and the submission may still be there, else 0. The submission must be
	// removed before the first attempt.
	Ahead uint64 `json:"ahead,omitempty"`
	// Dead is the dead letter that this run replays, as long as it may still exist, else nil. It
	// must be removed before the first attempt.
	Dead *DeadLetterRef `json:"dead,omitempty"`
	// Due is when the next attempt is to be made.
	Due time.Time `json:"due,omitzero"`
	// Replay is how often the operation was replayed from the dead letters.
	Replay int `json:"replay,omitempty"`
	// Repeats is the number of the last attempt that an instance that died or stood still may
	// already have made; 0 for none, [AnyAttempt] if unknown.
	Repeats int `json:"repeats,omitempty"`
	// Contested is since when another instance may have had this run as well, zero if none may
	// have. An outcome published since then takes precedence over this state.
	Contested time.Time `json:"contested,omitzero"`

	// Paused reports whether a pause held the operation when it came due last.
	Paused bool `json:"paused,omitempty"`
	// ElapsesFrom is from when the policy's maxElapsedTime counts, if not from the first failure:
	// the end of a pause during which it was over. Zero without such a pause.
	ElapsesFrom time.Time `json:"elapsesFrom,omitzero"`

	// RuleUses counts how often each limited classification rule decided in this run, by rule
	// name.
	RuleUses map[string]int `json:"ruleUses,omitempty"`

	// History are the failed attempts, oldest first. Omitted counts those removed from its middle
	// to keep it within [MaxHistory].
	History []Attempt `json:"history,omitempty"`
	Omitted int       `json:"omitted,omitempty"`

	// Work is the attempt that a worker is making, nil if none is.
	Work *Work `json:"-"`
}

// Origin is the message from which an operation was adopted: one that a JetStream consumer gave
// up.
type Origin struct {
	Stream   string `json:"stream"`
	Consumer string `json:"consumer"`
	// Sequence is the message's sequence in its stream.
	Sequence uint64 `json:"sequence"`
	// Subject is the message's subject, empty if the message was gone before it could be read.
	Subject string `json:"subject,omitempty"`
}

// Gone reports whether the message was already removed from its stream, so that its payload is
// lost.
func (o *Origin) Gone() bool { return o.Subject == "" }

// DeadLetterRef refers to a dead letter uniquely: the time distinguishes it from one with the same
// sequence in a stream that was created anew.
type DeadLetterRef struct {
	// Sequence is the dead letter's sequence in its stream.
	Sequence uint64    `json:"sequence"`
	DiedAt   time.Time `json:"diedAt"`
}

// Is reports whether g and other refer to the same dead letter.
func (g *DeadLetterRef) Is(other *DeadLetterRef) bool {
	return g != nil && other != nil && g.Sequence == other.Sequence && g.DiedAt.Equal(other.DiedAt)
}

// Attempt is a failed attempt and the decision that followed.
type Attempt struct {
	// Number counts from 1.
	Number int       `json:"attempt"`
	At     time.Time `json:"at"`
	// DurationMs is how long the attempt took, in milliseconds.
	DurationMs float64 `json:"durationMs"`
	// Code and Error describe the failure, cut off after [MaxCode] and [MaxError] bytes.
	Code  string `json:"code,omitempty"`
	Error string `json:"error,omitempty"`
	// Class is the class of the failure and Rule the rule that decided it.
	Class string `json:"class,omitempty"`
	Rule  string `json:"rule,omitempty"`
	// DelayMs is the delay that followed, in milliseconds, and Strategy the backoff strategy that
	// set it. Both are empty after the last attempt.
	DelayMs  float64 `json:"delayMs,omitempty"`
	Strategy string  `json:"strategy,omitempty"`
	// Repeated reports whether the attempt may have been made twice, for example because the
	// instance that made it died before it stored the result.
	Repeated bool `json:"repeated,omitempty"`
	// Replay is the run to which the attempt belongs.
	Replay int `json:"replay,omitempty"`
}

// AnyAttempt as [Operation.Repeats] stands for every attempt of the run.
const AnyAttempt = math.MaxInt32

// Bounds that keep an operation's state within the headers of a message (64 KiB).
const (
	MaxHistory = 32
	MaxError   = 256
	MaxCode    = 128
	// keptFirst is how many of the earliest attempts a full history keeps.
	keptFirst = 4
)

// OperationID returns the id of an operation: the first 128 bits of the SHA-256 of its source,
// event id, service and operation type, in hexadecimal. Each part is prefixed with its length, so
// that different parts never hash the same text.
func OperationID(source, eventID, service, operation string) string {
	hashed := make([]byte, 0, 512)
	for _, part := range [...]string{source, eventID, service, operation} {
		hashed = strconv.AppendInt(hashed, int64(len(part)), 10)
		hashed = append(append(hashed, ':'), part...)
	}
	sum := sha256.Sum256(hashed)
	var id [32]byte
	hex.Encode(id[:], sum[:16])
	return string(id[:])
}

// Key returns service:operation, to which a breaker, a budget, a lane and statistics belong.
func (o *Operation) Key() string { return Key(o.Service, o.Operation) }

// Run identifies one run of the operation, from submission or replay to its outcome.
func (o *Operation) Run() string { return string(o.appendRun(make([]byte, 0, maxMessageID))) }

// RunID returns the message id of what a run has once, by which JetStream recognises duplicates.
func (o *Operation) RunID(what string) string {
	id := append(o.appendRun(make([]byte, 0, maxMessageID)), '.')
	return string(append(id, what...))
}

// MessageID returns a deterministic message id for a message of this kind about the operation, by
// which JetStream recognises duplicates.
func (o *Operation) MessageID(what string) string {
	id := append(o.appendRun(make([]byte, 0, maxMessageID)), '.')
	id = append(strconv.AppendInt(id, int64(o.Attempt), 10), '.')
	return string(append(id, what...))
}

// OutcomeID returns the message id of the outcome of this run. It does not depend on the attempt,
// because a run has one outcome.
func (o *Operation) OutcomeID() string { return o.RunID("outcome") }

// maxMessageID is how many bytes most message ids need at most.
const maxMessageID = 96

func (o *Operation) appendRun(id []byte) []byte {
	return strconv.AppendInt(append(append(id, o.ID...), '.'), int64(o.Replay), 10)
}

// PreviousDelay returns the delay before the latest attempt of this run, zero if there was none.
func (o *Operation) PreviousDelay() time.Duration {
	for i := len(o.History) - 1; i >= 0; i-- {
		if a := o.History[i]; a.Replay == o.Replay && a.DelayMs > 0 {
			return Milliseconds(a.DelayMs)
		}
	}
	return 0
}

// Record appends an attempt to the history, within the bounds.
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

// Continue takes over the history of an earlier submission of the same operation, which o
// replaces.
func (o *Operation) Continue(earlier *Operation) {
	own := o.History
	o.History, o.Omitted = slices.Clone(earlier.History), earlier.Omitted
	for _, a := range own {
		o.Record(a)
	}
	o.RuleUses = earlier.RuleUses
	o.Paused, o.ElapsesFrom = earlier.Paused, earlier.ElapsesFrom
	o.Submitted, o.Ahead = earlier.Submitted, earlier.Ahead
	if earlier.FirstFailure.Before(o.FirstFailure) {
		o.FirstFailure = earlier.FirstFailure
	}
}

// Restart begins a new run of a dead letter's operation at the given time. Attempts count from 0
// again and the deadline is dropped; the history stays.
func (o *Operation) Restart(at time.Time) {
	o.Replay++
	o.Attempt = 0
	o.RuleUses = nil
	o.Repeats, o.Contested = 0, time.Time{}
	o.Paused, o.ElapsesFrom = false, time.Time{}
	o.Deadline, o.RetryAfter = time.Time{}, time.Time{}
	o.FirstFailure, o.Submitted, o.Due = at.UTC(), at.UTC(), at.UTC()
}

// Contest records that another instance may have had this run as well, since the given time at
// the latest.
func (o *Operation) Contest(since time.Time) {
	if o.Contested.IsZero() || since.Before(o.Contested) {
		o.Contested = since.UTC()
	}
}

// Fork records that another instance may have continued this run, since the given time at the
// latest, and made any of the following attempts.
func (o *Operation) Fork(since time.Time) {
	o.Contest(since)
	o.Repeats = AnyAttempt
}

// WaitingSince returns since when the operation has been waiting for its next attempt: the end of its
// last one, or the beginning of this run. It may have been stored slightly later.
func (o *Operation) WaitingSince() time.Time {
	if last, ok := o.Last(); ok && last.Replay == o.Replay && o.Attempt > 1 {
		return last.At.Add(Milliseconds(last.DurationMs))
	}
	return o.Submitted
}

// Failures returns how many attempts of the operation have failed, over all its runs.
func (o *Operation) Failures() int { return len(o.History) + o.Omitted }

// Last returns the latest attempt of the history; ok is false if there is none.
func (o *Operation) Last() (a Attempt, ok bool) {
	if len(o.History) == 0 {
		return Attempt{}, false
	}
	return o.History[len(o.History)-1], true
}

// Milliseconds converts milliseconds, as in events, to a duration.
func Milliseconds(ms float64) time.Duration {
	return time.Duration(ms * float64(time.Millisecond))
}

// InMilliseconds converts a duration to milliseconds, as in events, with a precision of a
// microsecond.
func InMilliseconds(d time.Duration) float64 {
	return float64(d.Microseconds()) / 1000
}
