package breaker

import "time"

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
