package events

import "time"

// BreakerChange is the data of rebound.breakerChanged.v1: the circuit breaker of a
// key went from one state to another. Its figures are those after the change.
type BreakerChange struct {
	Key       string `json:"key"`
	Service   string `json:"service"`
	Operation string `json:"operation"`
	// From and To are CLOSED, OPEN or HALF_OPEN. They are equal when an operator
	// gave an open breaker another end.
	From string `json:"from"`
	To   string `json:"to"`
	// Cause is one of the breaker's causes, Note what an operator said.
	Cause string    `json:"cause"`
	Note  string    `json:"note,omitempty"`
	At    time.Time `json:"at"`
	// Held is whether an operator keeps the breaker open until it is reset.
	Held             bool      `json:"held,omitempty"`
	FailureCount     int       `json:"failureCount"`
	LastFailureTime  time.Time `json:"lastFailureTime,omitzero"`
	NextAttemptTime  time.Time `json:"nextAttemptTime,omitzero"`
	HalfOpenAttempts int       `json:"halfOpenAttempts"`
	TotalRequests    uint64    `json:"totalRequests"`
	TotalFailures    uint64    `json:"totalFailures"`
	// AverageResponseTimeMs is that of the target.
	AverageResponseTimeMs float64 `json:"averageResponseTimeMs"`
}

// BackpressureChange is the data of rebound.backpressureChanged.v1: global
// backpressure turned on or off, by what was measured over all instances.
type BackpressureChange struct {
	Backpressure
	// By is the id of the instance that decided for all.
	By string `json:"by"`
	// Instances is how many there are, and ActiveRetries how many attempts all of
	// them have in flight.
	Instances     int `json:"instances"`
	ActiveRetries int `json:"activeRetries"`
	// FailureRate, 0 to 1, is the share of failures among the Samples attempts of
	// the last minute that speak of their target's health.
	FailureRate float64 `json:"failureRate"`
	Samples     int     `json:"samples"`
	// SystemLoad is the mean load average per core of their hosts.
	SystemLoad float64 `json:"systemLoad"`
	// StoreDelayMs is how long NATS or Redis takes to answer, at the instance where
	// it takes least, in milliseconds.
	StoreDelayMs float64 `json:"storeDelayMs"`
}

// Backpressure says whether global backpressure is on.
type Backpressure struct {
	On bool `json:"on"`
	// Cause is what turned it on, or keeps it on; empty while it is off.
	Cause string `json:"cause,omitempty"`
	// Since is when On became what it is, zero when it was never on.
	Since time.Time `json:"since,omitzero"`
}

// AboutAll stands where other events have the key that they are about. A key of
// that name is no trouble: the name of the event comes first in its subject.
var AboutAll = About{Service: "rebound", Operation: "all"}

// Backpressure is where [BackpressureChanged] is published.
func (s Subjects) Backpressure() string {
	return s.Event(BackpressureChanged, AboutAll.Service, AboutAll.Operation)
}
