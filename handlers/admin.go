package handlers

import (
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/internal/deadletter"
)

// Bounds of a request on dead letters.
const (
	defaultListLimit = 100
	maxListLimit     = 1000
	maxActLimit      = 10_000
)

// Submitted is the answer to rebound.submit.<service>.<operation>.
type Submitted struct {
	// ID is the operation's id.
	ID      string `json:"id"`
	EventID string `json:"eventId"`
	Source  string `json:"source"`
	// Stream and Sequence say where the submission is stored.
	Stream   string `json:"stream"`
	Sequence uint64 `json:"sequence"`
	// Duplicate is whether the same submission was stored before.
	Duplicate bool `json:"duplicate,omitempty"`
}

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
	deadletter.Filter
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

// Status is the answer to rebound.status.
type Status struct {
	Instance string    `json:"instance"`
	Version  string    `json:"version"`
	Started  time.Time `json:"started"`
	// Server is the version of the NATS server.
	Server string `json:"server"`
	// Submitted, Parked, Due, InFlight, Held and Dead count operations: taken
	// in by the stream but not by an instance, waiting for their time, due and
	// not taken, in hand of an instance, in lanes, and dead letters.
	Submitted uint64 `json:"submitted"`
	Parked    uint64 `json:"parked"`
	Due       uint64 `json:"due"`
	InFlight  uint64 `json:"inFlight"`
	Held      uint64 `json:"held"`
	Dead      uint64 `json:"dead"`
	// Outcomes counts the events that are kept.
	Outcomes uint64 `json:"outcomes"`
}

// HealthRequest is the request of rebound.health.
type HealthRequest struct {
	// Service is the one to tell about, all when empty.
	Service string `json:"service,omitempty"`
}

// Health is the answer to rebound.health, which every instance gives with what
// it sees itself; [health.Merge] puts the services of several together.
type Health struct {
	Instance string `json:"instance"`
	// Host is how busy the instance's host is, nil until it was measured.
	Host *health.Host `json:"host,omitempty"`
	// RefusedReports counts the health reports that could not be taken.
	RefusedReports uint64 `json:"refusedReports"`
	// Services tells of all of which something is known, by name.
	Services []health.Metrics `json:"services"`
}
