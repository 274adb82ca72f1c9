package breaker

import (
	"fmt"
	"slices"
	"time"
)

// Summary is the public part of a key's breaker: the original design's CircuitBreakerState, and
// what an operator did. Its times are on the clock of its store.
type Summary struct {
	// ServiceKey is the key, service:operationType.
	ServiceKey string `json:"serviceKey"`
	State      State  `json:"state"`
	// FailureCount is the current number of failures in a row. It is kept while the breaker is
	// open and reset to 0 when it closes.
	FailureCount int `json:"failureCount"`
	// LastFailureTime is when a failure was last counted, zero if never, and LastError what the
	// last one with a text said, at most [MaxError] bytes.
	LastFailureTime time.Time `json:"lastFailureTime,omitzero"`
	LastError       string    `json:"lastError,omitempty"`
	// NextAttemptTime is when an open breaker lets probes through. It is zero in the other states
	// and while the breaker is held.
	NextAttemptTime time.Time `json:"nextAttemptTime,omitzero"`
	// HalfOpenAttempts counts the probes since the breaker became half open.
	HalfOpenAttempts int `json:"halfOpenAttempts"`
	// HalfOpenSuccesses is the number of successful probes in a row.
	HalfOpenSuccesses int `json:"halfOpenSuccesses"`

	// TotalRequests and TotalFailures count all results ever.
	TotalRequests uint64 `json:"totalRequests"`
	TotalFailures uint64 `json:"totalFailures"`
	// AverageResponseTime is the mean over about the last 100 results, in milliseconds.
	AverageResponseTime float64 `json:"averageResponseTime"`

	// Held reports whether an operator keeps the breaker open until it is reset.
	Held bool `json:"held,omitempty"`
	// Cause is why the breaker last changed, Note an operator's reason, ChangedAt when it changed
	// and ChangedBy the instance that changed it.
	Cause     Cause     `json:"cause,omitempty"`
	Note      string    `json:"note,omitempty"`
	ChangedAt time.Time `json:"changedAt,omitzero"`
	ChangedBy string    `json:"changedBy,omitempty"`
	// OutageSince is when the breaker was last closed, zero while it is closed. Failed probes
	// change ChangedAt but not this.
	OutageSince time.Time `json:"outageSince,omitzero"`
	// Operated is what an operator last did. It is zero once that is over, because the probes
	// after it have closed the breaker, or because failures have opened it since.
	Operated Operated `json:"operated,omitzero"`
}

// MaxError bounds the text of a failure, in bytes.
const MaxError = 256

// Operated is what an operator did to a breaker.
type Operated struct {
	// Action is [CauseTripped], [CauseHeld] or [CauseReset].
	Action Cause `json:"action"`
	// By is the operator's name and Note the reason; either may be empty.
	By   string    `json:"by,omitempty"`
	Note string    `json:"note,omitempty"`
	At   time.Time `json:"at"`
}

// String says what was done, by whom and why: "held by ann: the database is being moved".
func (o *Operated) String() string {
	says := string(o.Action)
	if o.By != "" {
		says += " by " + o.By
	}
	if o.Note != "" {
		says += ": " + o.Note
	}
	return says
}

// Forced reports whether an operator opened the breaker and it has not closed since.
func (s *Summary) Forced() bool {
	opened := func(c Cause) bool { return c == CauseTripped || c == CauseHeld }
	// An older instance writes the cause only.
	return s.State != Closed && (opened(s.Operated.Action) || opened(s.Cause))
}

// Circuit is a breaker's [Summary] together with what the state machine needs. It is a value;
// [Step] never modifies its argument.
type Circuit struct {
	Summary

	// Generation counts the changes, from 1. A permit carries the generation in which it was
	// given, and a result of an earlier generation decides nothing.
	Generation uint64 `json:"generation"`
	// Probes are the probes in flight, including those of earlier generations.
	Probes []Probe `json:"probes,omitempty"`
	// Window has the results for the failure rate.
	Window []Bucket `json:"window,omitempty"`
	// Version grows with every write to the store and is 0 before the first.
	Version uint64 `json:"version"`
}

// State is the state of a breaker.
type State uint8

const (
	// Closed lets every attempt through.
	Closed State = iota
	// Open lets none through.
	Open
	// HalfOpen lets a bounded number of probes through.
	HalfOpen
)

// Cause is why a breaker changed.
type Cause string

// The causes.
const (
	// CauseFailures: too many failures in a row.
	CauseFailures Cause = "failures"
	// CauseFailureRate: too large a share of failures within the window.
	CauseFailureRate Cause = "failure_rate"
	// CauseTimeout: it was open for as long as the policy says.
	CauseTimeout Cause = "timeout"
	// CauseProbeFailed: a probe failed.
	CauseProbeFailed Cause = "probe_failed"
	// CauseProbesSucceeded: enough probes succeeded in a row.
	CauseProbesSucceeded Cause = "probes_succeeded"
	// CauseTripped: an operator opened it for a while.
	CauseTripped Cause = "tripped"
	// CauseHeld: an operator opened it until it is reset.
	CauseHeld Cause = "held"
	// CauseReset: an operator closed it.
	CauseReset Cause = "reset"
	// CauseMerged: an instance that was alone came back with a worse state.
	CauseMerged Cause = "merged"
)

// Probe is a probe in flight.
type Probe struct {
	ID string `json:"id"`
	// Expires is when the probe is given back if nothing was heard of it.
	Expires time.Time `json:"expires"`
}

// Bucket counts the results within one tenth of the window.
type Bucket struct {
	Start     time.Time `json:"start"`
	Successes int       `json:"successes"`
	Failures  int       `json:"failures"`
}

// NewCircuit returns the closed circuit that every key starts with.
func NewCircuit(key string) Circuit { return Circuit{Summary: Summary{ServiceKey: key}, Generation: 1} }

// Ready returns how many attempts may go at now, [Unlimited] for a closed circuit. If n is 0,
// next is when to ask again; a zero next means when the circuit changes. s must be the result of
// [Settings.OrDefaults].
func (c *Circuit) Ready(now time.Time, s *Settings) (n int, next time.Time) {
	switch {
	case c.State == Closed:
		return Unlimited, time.Time{}
	case c.Held:
		return 0, time.Time{}
	case c.State == Open && now.Before(c.NextAttemptTime):
		return 0, c.NextAttemptTime
	}
	inFlight := 0
	for _, p := range c.Probes {
		if !p.Expires.After(now) {
			continue
		}
		inFlight++
		if next.IsZero() || p.Expires.Before(next) {
			next = p.Expires
		}
	}
	if n = s.HalfOpenMaxRequests - inFlight; n > 0 {
		return n, time.Time{}
	}
	return 0, next
}

// Unlimited is the number of attempts that a closed breaker allows.
const Unlimited = int(^uint(0) >> 1)

// stance is what decides about the next attempt and its result, failure rates aside.
type stance struct {
	generation          uint64
	state               State
	held                bool
	next                int64 // Unix nanoseconds
	failures, successes int   // in a row, the latter of probes
	probes              int
}

func (c *Circuit) stance() stance {
	return stance{
		generation: c.Generation, state: c.State, held: c.Held, next: c.NextAttemptTime.UnixNano(),
		failures: c.FailureCount, successes: c.HalfOpenSuccesses, probes: len(c.Probes),
	}
}

// Clone returns a copy that shares nothing with c.
func (c *Circuit) Clone() Circuit {
	d := *c
	d.Probes = slices.Clone(c.Probes)
	d.Window = slices.Clone(c.Window)
	return d
}

var stateNames = [...]string{Closed: "CLOSED", Open: "OPEN", HalfOpen: "HALF_OPEN"}

func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// MarshalText returns the state's name in the original design.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what [State.MarshalText] writes.
func (s *State) UnmarshalText(text []byte) error {
	i := slices.Index(stateNames[:], string(text))
	if i < 0 {
		return fmt.Errorf("breaker: %q is no state; the states are CLOSED, OPEN and HALF_OPEN", text)
	}
	*s = State(i)
	return nil
}
