package breaker

import (
	"fmt"
	"slices"
	"time"
)

// Circuit is all that is known of one key's breaker: the original design's
// CircuitBreakerState and what the state machine needs beside it. It is a value;
// [Step] never changes the one it is given. Its times are of the clock of the
// store that holds it.
type Circuit struct {
	// ServiceKey is the key, service:operationType.
	ServiceKey string `json:"serviceKey"`
	State      State  `json:"state"`
	// FailureCount is how many failures in a row were counted last. It stays when
	// the breaker opens and is 0 again once it closes.
	FailureCount int `json:"failureCount"`
	// LastFailureTime is when a failure was last counted, zero when never.
	LastFailureTime time.Time `json:"lastFailureTime,omitzero"`
	// NextAttemptTime is when an open breaker lets probes through. It is zero in
	// the other states and while the breaker is held.
	NextAttemptTime time.Time `json:"nextAttemptTime,omitzero"`
	// HalfOpenAttempts is how many probes were let through since the breaker
	// became half open.
	HalfOpenAttempts int `json:"halfOpenAttempts"`
	// HalfOpenSuccesses is how many probes succeeded in a row.
	HalfOpenSuccesses int `json:"halfOpenSuccesses"`

	// TotalRequests and TotalFailures count every result that was ever told.
	TotalRequests uint64 `json:"totalRequests"`
	TotalFailures uint64 `json:"totalFailures"`
	// AverageResponseTime is the mean response time of about the last 100
	// results, in milliseconds.
	AverageResponseTime float64 `json:"averageResponseTime"`

	// Held says that an operator keeps the breaker open until it is reset.
	Held bool `json:"held,omitempty"`
	// Generation numbers the times between two changes, from 1. A permit bears
	// the generation in which it was given, and a result of an earlier generation
	// decides nothing.
	Generation uint64 `json:"generation"`
	// Cause is why the breaker last changed, Note what an operator said about it,
	// ChangedAt when it was and ChangedBy the instance that did it.
	Cause     Cause     `json:"cause,omitempty"`
	Note      string    `json:"note,omitempty"`
	ChangedAt time.Time `json:"changedAt,omitzero"`
	ChangedBy string    `json:"changedBy,omitempty"`

	// Probes are the probes in flight, those of earlier generations included.
	Probes []Probe `json:"probes,omitempty"`
	// Window are the results of the last while, for the failure rate.
	Window []Bucket `json:"window,omitempty"`
	// Version grows with every write to the store and is 0 before the first.
	Version uint64 `json:"version"`
}

// State is what a breaker does with attempts.
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
	// CauseMerged: an instance that was alone joined with a worse state.
	CauseMerged Cause = "merged"
)

// Probe is a probe in flight.
type Probe struct {
	ID string `json:"id"`
	// Expires is when the probe is given back though nothing was heard of it.
	Expires time.Time `json:"expires"`
}

// Bucket counts the results within one tenth of the window.
type Bucket struct {
	Start     time.Time `json:"start"`
	Successes int       `json:"successes"`
	Failures  int       `json:"failures"`
}

// NewCircuit returns the closed circuit that every key begins with.
func NewCircuit(key string) Circuit { return Circuit{ServiceKey: key, Generation: 1} }

// Ready returns how many attempts may go at now, [Unlimited] for a closed
// circuit. When that is 0, next is when it is worth while to ask again; a zero
// next means not before the circuit changes. s are the settings that
// [Settings.OrDefaults] returned.
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

// Unlimited is how many attempts may go through a closed breaker.
const Unlimited = int(^uint(0) >> 1)

// decidesLike reports whether c and d do the same with the next attempt and with
// its result, failure rates aside.
func (c *Circuit) decidesLike(d *Circuit) bool {
	return c.Generation == d.Generation && c.State == d.State && c.Held == d.Held && c.NextAttemptTime.Equal(d.NextAttemptTime) &&
		c.FailureCount == d.FailureCount && c.HalfOpenSuccesses == d.HalfOpenSuccesses && len(c.Probes) == len(d.Probes)
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

// MarshalText returns the state's name, as the original design has it.
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
