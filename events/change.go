package events

import "time"

// BreakerChange is the data of rebound.breakerChanged.v1: the circuit breaker of a key changed
// its state. The figures are those after the change.
type BreakerChange struct {
	Key       string `json:"key"`
	Service   string `json:"service"`
	Operation string `json:"operation"`
	// From and To are CLOSED, OPEN or HALF_OPEN. They are equal when an operator changed how long
	// an open breaker stays open.
	From string `json:"from"`
	To   string `json:"to"`
	// Cause is one of the breaker's causes, By an operator's name and Note the reason.
	Cause string    `json:"cause"`
	By    string    `json:"by,omitempty"`
	Note  string    `json:"note,omitempty"`
	At    time.Time `json:"at"`
	// OutageSince is when the breaker was last closed, zero while it is.
	OutageSince time.Time `json:"outageSince,omitzero"`
	// Held reports whether an operator keeps the breaker open until it is reset.
	Held             bool      `json:"held,omitempty"`
	FailureCount     int       `json:"failureCount"`
	LastFailureTime  time.Time `json:"lastFailureTime,omitzero"`
	LastError        string    `json:"lastError,omitempty"`
	NextAttemptTime  time.Time `json:"nextAttemptTime,omitzero"`
	HalfOpenAttempts int       `json:"halfOpenAttempts"`
	TotalRequests    uint64    `json:"totalRequests"`
	TotalFailures    uint64    `json:"totalFailures"`
	// AverageResponseTimeMs is the target's, in milliseconds.
	AverageResponseTimeMs float64 `json:"averageResponseTimeMs"`
}

// BackpressureChange is the data of rebound.backpressureChanged.v1: global backpressure turned on
// or off, with the measurements of all instances.
type BackpressureChange struct {
	Backpressure
	// By is the id of the instance that decided.
	By string `json:"by"`
	// Instances is the number of instances, ActiveRetries the number of attempts that they have
	// in flight together.
	Instances     int `json:"instances"`
	ActiveRetries int `json:"activeRetries"`
	// FailureRate, 0 to 1, is the share of failures among Samples, the attempts of the last
	// minute that count for their target's health.
	FailureRate float64 `json:"failureRate"`
	Samples     int     `json:"samples"`
	// VotingServices is the number of services with enough recent attempts for a vote, and
	// FailingServices how many of them fail.
	VotingServices  int `json:"votingServices"`
	FailingServices int `json:"failingServices"`
	// SystemLoad is the hosts' mean load average per core.
	SystemLoad float64 `json:"systemLoad"`
	// StoreDelayMs is the response time of NATS or Redis at the instance where it is shortest, in
	// milliseconds.
	StoreDelayMs float64 `json:"storeDelayMs"`
}

// Backpressure is the state of global backpressure.
type Backpressure struct {
	On bool `json:"on"`
	// Cause is what turned it on or keeps it on; empty while it is off.
	Cause string `json:"cause,omitempty"`
	// Since is when On last changed, zero if it never did.
	Since time.Time `json:"since,omitzero"`
}

// AboutAll takes the place of the key in events that concern all keys. A key of the same name
// causes no ambiguity, because the name of the event precedes it in the subject.
var AboutAll = About{Service: "rebound", Operation: "all"}

// Backpressure is the subject on which [BackpressureChanged] is published.
func (s Subjects) Backpressure() string {
	return s.Event(BackpressureChanged, AboutAll.Service, AboutAll.Operation)
}
