package breaker

import (
	"errors"
	"fmt"
	"time"
)

// Settings say when a breaker opens and closes. They are the breaker's part of a
// policy; a field that is 0 has the default that is named with it.
type Settings struct {
	// Threshold is how many failures in a row open the breaker, 5 by default
	// (circuitBreakerThreshold).
	Threshold int `json:"threshold"`
	// Timeout is how long the breaker stays open before it lets probes through,
	// 1 minute by default (circuitBreakerTimeout).
	Timeout time.Duration `json:"-"`
	// FailureRate is the share of failures within Window, up to 1, that opens the
	// breaker (circuitBreakerFailureRate). By default the rate does not count.
	FailureRate float64 `json:"rate"`
	// Window is the time over which the failure rate is taken, 1 minute by
	// default (circuitBreakerWindow). It moves on in tenths.
	Window time.Duration `json:"-"`
	// MinimumCalls is how many results the window needs before its failure rate
	// counts, 20 by default (circuitBreakerMinimumCalls).
	MinimumCalls int `json:"minimum"`
	// HalfOpenMaxRequests is how many probes may be in flight at once, over all
	// instances, 3 by default (halfOpenMaxRequests).
	HalfOpenMaxRequests int `json:"probes"`
	// HalfOpenSuccesses is how many probes must succeed in a row to close the
	// breaker, 3 by default (halfOpenSuccesses).
	HalfOpenSuccesses int `json:"successes"`
	// ProbeLease is when a probe that is not heard of again is given back, because
	// its instance died; 1 minute by default. It must be longer than an attempt can
	// take: a probe that outlives its lease is in flight beside its successor.
	ProbeLease time.Duration `json:"-"`
}

// shortest is the resolution of the stores' times.
const shortest = time.Millisecond

// OrDefaults returns s with every default filled in.
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

// Validate returns all that is wrong with s, nil when nothing is.
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
	if !(s.FailureRate >= 0 && s.FailureRate <= 1) { //nolint:staticcheck // so that NaN is an issue too
		issue("the failure rate is %v; it must be from 0 to 1", s.FailureRate)
	}
	return errors.Join(issues...)
}
