package events

import "time"

// Reason is why an operation ended in [RetryFailed].
type Reason string

// The reasons.
const (
	// ReasonExhausted: the policy allows no further attempt.
	ReasonExhausted Reason = "exhausted"
	// ReasonNotRetryable: the failure does not pass by itself.
	ReasonNotRetryable Reason = "not_retryable"
	// ReasonDeadline: no further attempt can finish before the deadline.
	ReasonDeadline Reason = "deadline"
	// ReasonMaxElapsed: the policy's maxElapsedTime is over.
	ReasonMaxElapsed Reason = "max_elapsed"
	// ReasonRejected: the submission could not be accepted.
	ReasonRejected Reason = "rejected"
)

// Reasons lists every reason.
var Reasons = [...]Reason{ReasonExhausted, ReasonNotRetryable, ReasonDeadline, ReasonMaxElapsed, ReasonRejected}

// About identifies the operation of an event. It is part of the data of every event about an
// operation.
type About struct {
	// ID is the operation's id, as in subjects and in Retry-Id.
	ID string `json:"id"`
	// EventID and Source are the submission's CloudEvents attributes.
	EventID string `json:"eventId"`
	Source  string `json:"source"`
	// Service and Operation are the key's parts.
	Service   string `json:"service"`
	Operation string `json:"operation"`
	Priority  string `json:"priority"`
	Account   string `json:"accountId,omitempty"`
	Campaign  string `json:"campaignId,omitempty"`
	// Replay is how often the operation was replayed from the dead letters.
	Replay int `json:"replay,omitempty"`
}

// About returns the identification of o for events.
func (o *Operation) About() About {
	return About{
		ID: o.ID, EventID: o.EventID, Source: o.Source, Service: o.Service, Operation: o.Operation,
		Priority: o.Priority.String(), Account: o.Account, Campaign: o.Campaign, Replay: o.Replay,
	}
}

// Failure describes how an attempt failed.
type Failure struct {
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
}

// Outcome is the data of rebound.retrySuccess.v1 and rebound.retryFailed.v1, the end of an
// operation. Each run of an operation has exactly one.
type Outcome struct {
	About
	// Outcome is [RetrySuccess] or [RetryFailed].
	Outcome string `json:"outcome"`
	// Attempts counts all attempts, including the one before the submission.
	Attempts int    `json:"attempts"`
	Target   string `json:"target,omitempty"`
	// DurationMs is how long the last attempt took, in milliseconds.
	DurationMs   float64   `json:"durationMs"`
	FirstFailure time.Time `json:"firstFailure"`
	EndedAt      time.Time `json:"endedAt"`
	// ElapsedMs is the time from the first failure to the end, in milliseconds.
	ElapsedMs float64 `json:"elapsedMs"`
	// Strategy is the backoff strategy of the last delay.
	Strategy string `json:"strategy,omitempty"`

	// The fields below are set for retryFailed only.
	Reason Reason `json:"reason,omitempty"`
	// Detail explains the reason in a sentence.
	Detail string   `json:"detail,omitempty"`
	Error  *Failure `json:"error,omitempty"`
	Class  string   `json:"class,omitempty"`
	Rule   string   `json:"rule,omitempty"`
	// DeadLetter is the subject of the dead letter.
	DeadLetter string `json:"deadLetter,omitempty"`
}

// Scheduled is the data of rebound.retryScheduled.v1: an attempt failed and the next one is
// scheduled.
type Scheduled struct {
	About
	// Attempt is the number of the failed attempt; the next attempt has the number after it.
	Attempt    int     `json:"attempt"`
	Error      Failure `json:"error"`
	DurationMs float64 `json:"durationMs"`
	Class      string  `json:"class"`
	Rule       string  `json:"rule,omitempty"`

	DelayMs float64   `json:"delayMs"`
	Due     time.Time `json:"due"`
	// GateMs is the part of the delay, in milliseconds, that only waits for the gate of the key
	// to open; 0 if it is open.
	GateMs float64 `json:"gateMs,omitempty"`
	// Strategy names the backoff strategy. Confidence, from 0 to 1, says how much evidence the
	// delay is based on.
	Strategy   string  `json:"strategy"`
	Confidence float64 `json:"confidence"`
	// Factors are the factors by which the base delay was multiplied, by name.
	Factors map[string]float64 `json:"factors,omitempty"`
}

// Ended returns the outcome, named name, of an operation that ends now.
func (o *Operation) Ended(name string, now time.Time) Outcome {
	out := Outcome{
		About: o.About(), Outcome: name, Attempts: o.Attempt,
		FirstFailure: o.FirstFailure, EndedAt: now.UTC(),
		ElapsedMs: max(InMilliseconds(now.Sub(o.FirstFailure)), 0),
	}
	for i := len(o.History) - 1; i >= 0; i-- {
		if o.History[i].Strategy != "" {
			out.Strategy = o.History[i].Strategy
			break
		}
	}
	return out
}

const (
	typePrefix = "rebound."
	typeSuffix = ".v1"
)

// EventType returns the CloudEvents type of one of Rebound's events by its name, such as
// rebound.retrySuccess.v1. It allocates nothing for an event that is published for every operation.
func EventType(name string) string {
	switch name {
	case RetryScheduled:
		return typePrefix + RetryScheduled + typeSuffix
	case RetrySuccess:
		return typePrefix + RetrySuccess + typeSuffix
	}
	return typePrefix + name + typeSuffix
}
