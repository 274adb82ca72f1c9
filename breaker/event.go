package breaker

import (
	"time"
)

// Event is what may change a circuit. Kind says which of the fields count.
type Event struct {
	Kind Kind
	// By is the instance from which the event comes.
	By string
	// Generation is that of the permits to which a Report or a Return belongs.
	Generation uint64
	// Seen and SeenGeneration are the version and the generation of the circuit on
	// which the event rests. A store that holds an older one has lost what it held and
	// refuses the event; see [Reply]. It may have had as many versions since, but not
	// as many generations.
	Seen, SeenGeneration uint64

	// Tally are the results of a Report or Rejoin.
	Tally Tally
	// Probe is the probe that an Acquire would have or that a Return gives back.
	Probe string
	// Result and Took say how a probe ended.
	Result Result
	Took   time.Duration
	// For is how long a Trip keeps the breaker open, at most [LongestTrip]; 0 is the
	// settings' Timeout.
	For time.Duration
	// Note is what an operator says about a Trip, Hold or Reset.
	Note string
	// Circuit is what a Rejoin brings. Without Diverged it is merely what the
	// instance remembers of its version, which counts for nothing beside a later
	// one. Returned are the probes of the store's that have come back meanwhile.
	Circuit  *Circuit
	Diverged bool
	Returned []string
	// Idle is how long the store keeps the circuit if nobody touches it and it is
	// closed, with nothing that an operator said; 0 is a day.
	Idle time.Duration
}

// Kind is a kind of [Event].
type Kind string

// The kinds.
const (
	// Report brings the results of attempts that were no probes.
	Report Kind = "report"
	// Acquire asks for one permit.
	Acquire Kind = "acquire"
	// Return says how a probe ended.
	Return Kind = "return"
	// Trip opens the breaker for a while.
	Trip Kind = "trip"
	// Hold opens the breaker until a Reset.
	Hold Kind = "hold"
	// Reset closes the breaker.
	Reset Kind = "reset"
	// Rejoin merges the circuit of an instance that was alone; the worse state
	// wins.
	Rejoin Kind = "rejoin"
)

// Result is how an attempt ended, as far as the target's health goes.
type Result uint8

const (
	// Success is a good answer.
	Success Result = iota
	// Failure is one that speaks of the target's health.
	Failure
	// Ignored is any other failure, such as a validation error. It counts as a
	// request and decides nothing.
	Ignored
	// Unused is an attempt that was not made. It counts as nothing.
	Unused
)

// Effect is what a [Step] did besides changing the circuit.
type Effect struct {
	// Granted says that an Acquire has its permit. Probe is its probe's id, empty
	// in a closed circuit; the permit's generation is the circuit's.
	Granted bool
	Probe   string
	// Next is when a refused Acquire may be tried again; zero is not before the
	// circuit changes.
	Next time.Time
	// Written says that the circuit is another than before.
	Written bool
	// Changed says that the state changed, or that an operator or a merge began a
	// new generation of the same state; From is the state before.
	Changed bool
	From    State
}

// Tally sums up a sequence of results so that one [Step] with the sum does what
// one with each result would have done: beside the numbers it has the runs of
// failures. Only the failure rate is looked at once per tally and not once per
// result. The zero value is an empty tally.
type Tally struct {
	// Successes and Failures are results of the tally's generation.
	Successes int `json:"s,omitempty"`
	Failures  int `json:"f,omitempty"`
	// Leading are the failures before the first success, Trailing those after the
	// last, Longest is the longest run of all. Without a success all three are
	// Failures.
	Leading  int `json:"lead,omitempty"`
	Trailing int `json:"trail,omitempty"`
	Longest  int `json:"long,omitempty"`

	// Requests, AllFailures and ResponseTime are of all results: those that
	// decide nothing because they are late or ignored are in here alone.
	Requests     int           `json:"n,omitempty"`
	AllFailures  int           `json:"nf,omitempty"`
	ResponseTime time.Duration `json:"-"`
}

// Add counts one result. A late one is of an earlier generation.
func (t *Tally) Add(r Result, took time.Duration, late bool) {
	if r == Unused {
		return
	}
	t.Requests++
	t.ResponseTime += took
	if r == Failure {
		t.AllFailures++
	}
	switch {
	case late || r == Ignored:
	case r == Success:
		t.Successes++
		t.Trailing = 0
	default:
		t.Failures++
		t.Trailing++
		if t.Successes == 0 {
			t.Leading++
		}
		t.Longest = max(t.Longest, t.Trailing)
	}
}

// Merge appends the results of u, which are of the same generation.
func (t *Tally) Merge(u Tally) {
	longest := max(t.Longest, u.Longest, t.Trailing+u.Leading)
	if t.Successes == 0 {
		t.Leading += u.Leading
	}
	if u.Successes == 0 {
		t.Trailing += u.Trailing
	} else {
		t.Trailing = u.Trailing
	}
	t.Longest = longest
	t.Successes += u.Successes
	t.Failures += u.Failures
	t.Requests += u.Requests
	t.AllFailures += u.AllFailures
	t.ResponseTime += u.ResponseTime
}

// late returns the tally as it is once a new generation has begun: what is left
// of it are its totals.
func (t *Tally) late() Tally {
	return Tally{Requests: t.Requests, AllFailures: t.AllFailures, ResponseTime: t.ResponseTime}
}

func (t *Tally) empty() bool { return t.Requests == 0 }
