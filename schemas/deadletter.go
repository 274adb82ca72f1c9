package schemas

import (
	"time"

	"github.com/rebound-mq/rebound/events"
)

// Bounds of a request that selects something.
const (
	// DefaultListLimit is how many a list has when the request names no limit, and
	// MaxListLimit the most that it may ask for.
	DefaultListLimit = 100
	MaxListLimit     = 1000
	// MaxActLimit is how many dead letters one request acts on at most.
	MaxActLimit = 10_000
)

// DeadSummary is a dead letter without its payload.
type DeadSummary struct {
	ID        string        `json:"id"`
	Service   string        `json:"service"`
	Operation string        `json:"operation"`
	Reason    events.Reason `json:"reason"`
	Detail    string        `json:"detail"`
	ErrorCode string        `json:"errorCode,omitempty"`
	Attempts  int           `json:"attempts"`
	Replay    int           `json:"replay,omitempty"`
	DiedAt    time.Time     `json:"diedAt"`
	Bytes     int           `json:"bytes"`
	Sequence  uint64        `json:"sequence"`
}

// SummariseDead leaves the payload of a dead letter out.
func SummariseDead(d *events.DeadLetter) DeadSummary {
	out := DeadSummary{
		ID: d.ID, Service: d.Service, Operation: d.Operation, Reason: d.Reason, Detail: d.Detail,
		ErrorCode: d.ErrorCode(), DiedAt: d.DiedAt, Bytes: len(d.Data), Sequence: d.Sequence,
	}
	if d.State != nil {
		out.Attempts, out.Replay = d.State.Attempt, d.State.Replay
	}
	return out
}

// DeadList is the answer to rebound.dead.list.
type DeadList struct {
	DeadLetters []DeadSummary `json:"deadLetters"`
	// Next continues the list as the filter's after; 0 at its end.
	Next uint64 `json:"next,omitempty"`
}

// DeadShow is the request of rebound.dead.show; the answer is an
// [events.DeadLetter].
type DeadShow struct {
	ID string `json:"id"`
}

// DeadAct is the request of rebound.dead.replay and rebound.dead.discard.
type DeadAct struct {
	events.DeadLetterFilter
	// All must be true when the filter selects nothing in particular.
	All bool `json:"all,omitempty"`
	// DryRun counts and does nothing.
	DryRun bool `json:"dryRun,omitempty"`
}

// DeadActed is the answer to a [DeadAct].
type DeadActed struct {
	// Matched counts the dead letters that the filter selected, and Done those
	// that were acted on.
	Matched int `json:"matched"`
	Done    int `json:"done"`
	// Next continues as the filter's after; 0 when all were selected.
	Next uint64 `json:"next,omitempty"`
}
