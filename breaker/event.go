package breaker

import (
	"cmp"
	"time"
)

// Event is what may change a circuit. Kind determines which fields are used.
type Event struct {
	Kind Kind
	// By is the instance that sends the event.
	By string
	// Generation is the generation of the permit or permits to which a Report or Return belongs.
	Generation uint64
	// Seen and SeenGeneration are the version and generation of the circuit on which the event is
	// based. A store whose circuit is older has lost data and refuses the event; see [Reply].
	// Since the loss it may have reached the same version again, but not the same generation.
	Seen, SeenGeneration uint64

	// Tally are the results of a Report or Rejoin.
	Tally Tally
	// Probe is the id of the probe that an Acquire asks for or a Return gives back.
	Probe string
	// Result and Took are how a probe ended and how long it took.
	Result Result
	Took   time.Duration
	// Error is what a failed probe said, empty if that is not known.
	Error string
	// For is how long a Trip keeps the breaker open, at most [LongestTrip]; 0 means the settings'
	// Timeout.
	For time.Duration
	// Operator and Note are an operator's name and reason for a Trip, Hold or Reset.
	Operator string
	Note     string
	// Circuit is what a Rejoin brings. If Diverged is false it is only what the instance
	// remembers, and a later version outweighs it. Returned are the probes granted by the store
	// that have ended meanwhile.
	Circuit  *Circuit
	Diverged bool
	Returned []string
	// Idle is how long the store keeps an unused circuit that is closed and that no operator has
	// changed; 0 is a day.
	Idle time.Duration
}

// Kind is a kind of [Event].
type Kind string

// The kinds.
const (
	// Report brings the results of attempts other than probes.
	Report Kind = "report"
	// Acquire asks for one permit.
	Acquire Kind = "acquire"
	// Return reports how a probe ended.
	Return Kind = "return"
	// Trip opens the breaker for a while.
	Trip Kind = "trip"
	// Hold opens the breaker until a Reset.
	Hold Kind = "hold"
	// Reset closes the breaker.
	Reset Kind = "reset"
	// Rejoin merges the circuit of an instance that was alone; the worse state wins.
	Rejoin Kind = "rejoin"
)

// Result is how an attempt ended, as far as the target's health is concerned.
type Result uint8

const (
	// Success is a good reply.
	Success Result = iota
	// Failure is a failure that counts against the target's health.
	Failure
	// Ignored is any other failure, such as a validation error. It counts as a request but
	// decides nothing.
	Ignored
	// Unused is an attempt that was not made. It is not counted.
	Unused
)

// Attempt returns how the probe of a Return ended.
func (e *Event) Attempt() Attempt { return Attempt{Result: e.Result, Took: e.Took, Error: e.Error} }

// Effect is the result of a [Step] besides the circuit.
type Effect struct {
	// Granted reports whether an Acquire got a permit. Probe is the id of its probe, empty if the
	// circuit is closed; the permit's generation is the circuit's.
	Granted bool
	Probe   string
	// Next is when a refused Acquire may be tried again; zero means when the circuit changes.
	Next time.Time
	// Written reports whether the circuit differs from before.
	Written bool
	// Changed reports whether the state changed, or an operator or a merge began a new generation
	// of the same state. From is the state before.
	Changed bool
	From    State
}

// Tally sums up a sequence of results so that one [Step] with the tally equals one step per
// result. For this it also records the runs of failures. Only the failure rate is checked once
// per tally instead of once per result. The zero value is an empty tally.
type Tally struct {
	// Successes and Failures are results of the tally's generation.
	Successes int `json:"s,omitempty"`
	Failures  int `json:"f,omitempty"`
	// Leading are the failures before the first success, Trailing those after the last, and
	// Longest is the longest run. Without a success all three equal Failures.
	Leading  int `json:"lead,omitempty"`
	Trailing int `json:"trail,omitempty"`
	Longest  int `json:"long,omitempty"`

	// Requests, AllFailures and ResponseTime cover all results, including late and ignored ones,
	// which decide nothing and appear only here.
	Requests     int           `json:"n,omitempty"`
	AllFailures  int           `json:"nf,omitempty"`
	ResponseTime time.Duration `json:"-"`
	// Error is the text of the last failure that had one.
	Error string `json:"err,omitempty"`
}

// Attempt is how an attempt ended.
type Attempt struct {
	Result Result
	// Took is how long it took.
	Took time.Duration
	// Error is what a failure said, empty if that is not known. It is cut to [MaxError].
	Error string
}

// Add counts one result. A late result belongs to an earlier generation.
func (t *Tally) Add(a Attempt, late bool) {
	r := a.Result
	if r == Unused {
		return
	}
	t.Requests++
	t.ResponseTime += a.Took
	if r == Failure {
		t.AllFailures++
		t.Error = cmp.Or(a.Error, t.Error)
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

// Merge appends the results of u, which must be of the same generation.
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
	t.Error = cmp.Or(u.Error, t.Error)
}

// late returns the tally as it is after a new generation has begun: only its totals.
func (t *Tally) late() Tally {
	return Tally{Requests: t.Requests, AllFailures: t.AllFailures, ResponseTime: t.ResponseTime, Error: t.Error}
}

func (t *Tally) empty() bool { return t.Requests == 0 }
