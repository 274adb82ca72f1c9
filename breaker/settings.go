package breaker

import (
	"errors"
	"fmt"
	"time"
)

// Settings determine when a breaker opens and closes. They are the breaker's part of a policy; a
// field that is 0 has the default given with it.
type Settings struct {
	// Threshold is the number of failures in a row that opens the breaker, 5 by default
	// (circuitBreakerThreshold).
	Threshold int `json:"threshold"`
	// Timeout is how long the breaker stays open before it lets probes through,
	// 1 minute by default (circuitBreakerTimeout).
	Timeout time.Duration `json:"-"`
	// FailureRate is the share of failures within Window, 0 to 1, that opens the breaker
	// (circuitBreakerFailureRate). By default the rate is not used.
	FailureRate float64 `json:"rate"`
	// Window is the time over which the failure rate is computed, 1 minute by default
	// (circuitBreakerWindow). It moves in tenths.
	Window time.Duration `json:"-"`
	// MinimumCalls is how many results the window needs before its failure rate is used, 20 by
	// default (circuitBreakerMinimumCalls).
	MinimumCalls int `json:"minimum"`
	// HalfOpenMaxRequests bounds the probes in flight, over all instances, 3 by default
	// (halfOpenMaxRequests).
	HalfOpenMaxRequests int `json:"probes"`
	// HalfOpenSuccesses is the number of successful probes in a row that closes the breaker, 3 by
	// default (halfOpenSuccesses).
	HalfOpenSuccesses int `json:"successes"`
	// ProbeLease is when an unfinished probe is given back because its instance may have died; 1
	// minute by default. It must exceed the duration of an attempt: a probe that outlives its
	// lease is in flight beside its successor.
	ProbeLease time.Duration `json:"-"`
}

// shortest is the resolution of the stores' times.
const shortest = time.Millisecond

// OrDefaults returns s with all defaults filled in.
func (s Settings) OrDefaults() Settings {
	orInt := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	orTime := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	orInt(&s.Threshold, 5)
	orTime(&s.Timeout, time.Minute)
	orTime(&s.Window, time.Minute)
	orInt(&s.MinimumCalls, 20)
	orInt(&s.HalfOpenMaxRequests, 3)
	orInt(&s.HalfOpenSuccesses, 3)
	orTime(&s.ProbeLease, time.Minute)
	return s
}

// Validate returns every problem of s, nil if there is none.
func (s Settings) Validate() error {
	var issues []error
	issue := func(format string, a ...any) { issues = append(issues, fmt.Errorf("breaker: "+format, a...)) }
	for _, v := range []struct {
		name  string
		value int
	}{
		{"threshold", s.Threshold},
		{"minimum of calls", s.MinimumCalls},
		{"number of half-open probes", s.HalfOpenMaxRequests},
		{"number of half-open successes", s.HalfOpenSuccesses},
	} {
		if v.value < 0 || v.value > 1_000_000 {
			issue("the %s is %d; it must be from 1 to 1,000,000, or 0 for the default", v.name, v.value)
		}
	}
	for _, v := range []struct {
		name  string
		value time.Duration
		least time.Duration
	}{
		{"timeout", s.Timeout, shortest},
		{"window", s.Window, windowBuckets * shortest},
		{"probe lease", s.ProbeLease, shortest},
	} {
		if v.value != 0 && (v.value < v.least || v.value > HeldTTL) {
			issue("the %s is %v; it must be from %v to %v, or 0 for the default", v.name, v.value, v.least, HeldTTL)
		}
	}
	if !(s.FailureRate >= 0 && s.FailureRate <= 1) { //nolint:staticcheck // refuses NaN too
		issue("the failure rate is %v; it must be from 0 to 1", s.FailureRate)
	}
	return errors.Join(issues...)
}
