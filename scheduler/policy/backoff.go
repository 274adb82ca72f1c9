package policy

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/rebound-mq/rebound/events"
)

// Strategy is how the delay grows with the attempts: fixed, linear, exponential or
// adaptive in policy files and attributes.
type Strategy uint8

const (
	// Exponential is base × multiplier^(attempt−1).
	Exponential Strategy = iota
	// Fixed is the base delay after every attempt.
	Fixed
	// Linear is base × attempt.
	Linear
	// Adaptive is the exponential delay times the adaptive [Factors].
	Adaptive
)

// Jitter is how a delay d is randomised: none, full, equal or decorrelated in policy
// files and attributes. The formulas are from Marc Brooker, "Exponential Backoff And
// Jitter", AWS Architecture Blog, 2015.
type Jitter uint8

const (
	// NoJitter leaves d as it is.
	NoJitter Jitter = iota
	// FullJitter is random(0, d).
	FullJitter
	// EqualJitter is d/2 + random(0, d/2).
	EqualJitter
	// DecorrelatedJitter is random(base, previous × 3), capped; it replaces the
	// strategy's own growth.
	DecorrelatedJitter
)

// backoff returns p's delay after the given attempt in nanoseconds, before
// factors and jitter, from 0 to MaxDelay. The formulas are, with n the attempt
// from 1:
//
//	fixed        base
//	linear       base × n
//	exponential  base × multiplier^(n−1)
//	adaptive     as exponential
func (p *Policy) backoff(attempt int) float64 {
	base, limit := nanoseconds(p.BaseDelay), nanoseconds(p.MaxDelay)
	switch p.BackoffStrategy {
	case Fixed:
		return min(base, limit)
	case Linear:
		return min(base*float64(attempt), limit)
	}
	if base == 0 {
		return 0 // because 0 × ∞ is not a number
	}
	return min(base*power(p.Multiplier, attempt-1), limit)
}

// power returns x^n for x from 1 and n from 0 by repeated squaring, at most 64
// steps, and +∞ on overflow. An x below 1, or NaN, counts as 1.
func power(x float64, n int) float64 {
	if !(x > 1) {
		return 1
	}
	result := 1.0
	for n > 0 {
		if n&1 == 1 {
			result *= x
		}
		x *= x
		n >>= 1
	}
	return result
}

// nanoseconds returns d as a float; a negative d counts as 0.
func nanoseconds(d time.Duration) float64 { return float64(max(d, 0)) }

// duration returns ns nanoseconds, at most limit and at least 0.
func duration(ns float64, limit time.Duration) time.Duration {
	switch {
	case !(ns > 0):
		return 0
	case ns >= float64(limit) || ns >= math.MaxInt64:
		return max(limit, 0)
	}
	return time.Duration(ns)
}

var strategyWords = [...]string{Exponential: "exponential", Fixed: "fixed", Linear: "linear", Adaptive: "adaptive"}

// String returns the word for s in policy files and attributes.
func (s Strategy) String() string { return word(strategyWords[:], int(s)) }

// ParseStrategy reads one of fixed, linear, exponential, adaptive. Anything
// else is an error that names these.
func ParseStrategy(s string) (Strategy, error) {
	i, err := parseWord(strategyWords[:], s, "fixed, linear, exponential or adaptive")
	return Strategy(i), err
}

// MarshalText implements [encoding.TextMarshaler].
func (s Strategy) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler] with the words of
// [ParseStrategy].
func (s *Strategy) UnmarshalText(b []byte) (err error) {
	*s, err = ParseStrategy(string(b))
	return err
}

// word returns the i-th word, or i in digits if there is none.
func word(words []string, i int) string {
	if i >= 0 && i < len(words) {
		return words[i]
	}
	return fmt.Sprint(i)
}

// parseWord returns the index of s in words.
func parseWord(words []string, s, accepted string) (int, error) {
	for i, w := range words {
		if w == s {
			return i, nil
		}
	}
	return 0, fmt.Errorf("%q is not %s", s, accepted)
}

// spread returns the two delays, in nanoseconds, between which p draws at random
// after the given attempt; product is the product of the adaptive factors. With d
// the strategy's delay times product, capped:
//
//	none          d to d
//	full          0 to d
//	equal         d/2 to d
//	decorrelated  b to 3 × the previous delay, with b = base × product
//
// The previous delay counts as at least b. It already includes the factors of its
// own decision: multiplied again, a product of 3 would turn a growth by 3 into one
// by 9, and a product of ½ would end all growth. draw clamps a decorrelated draw to
// [base, cap].
func (p *Policy) spread(attempt int, previous time.Duration, product float64) (low, high float64) {
	limit := nanoseconds(p.MaxDelay)
	if p.JitterType == DecorrelatedJitter {
		b := min(nanoseconds(p.BaseDelay), limit) * product
		return b, 3 * max(b, min(nanoseconds(previous), limit))
	}
	d := min(p.backoff(attempt)*product, limit)
	switch p.JitterType {
	case FullJitter:
		return 0, d
	case EqualJitter:
		return d / 2, d
	}
	return d, d
}

// draw returns a random delay between low and high, within p's bounds. It weights
// both ends, instead of adding a share of their distance to one, so that rounding
// never makes a delay shorter when an end grows.
func (p *Policy) draw(low, high float64, random func() float64) time.Duration {
	if high > low {
		r := random()
		if !(r >= 0) {
			r = 0
		}
		r = min(r, 1)
		low = min(max(low*(1-r)+high*r, low), high)
	}
	d := duration(low, p.MaxDelay)
	if p.JitterType == DecorrelatedJitter {
		d = max(d, min(p.BaseDelay, p.MaxDelay), 0)
	}
	return d
}

var jitterWords = [...]string{NoJitter: "none", FullJitter: "full", EqualJitter: "equal", DecorrelatedJitter: "decorrelated"}

// String returns the word for j in policy files and attributes.
func (j Jitter) String() string { return word(jitterWords[:], int(j)) }

// ParseJitter reads one of none, full, equal, decorrelated. Anything else is an
// error that names these.
func ParseJitter(s string) (Jitter, error) {
	i, err := parseWord(jitterWords[:], s, "none, full, equal or decorrelated")
	return Jitter(i), err
}

// MarshalText implements [encoding.TextMarshaler].
func (j Jitter) MarshalText() ([]byte, error) { return []byte(j.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler] with the words of
// [ParseJitter].
func (j *Jitter) UnmarshalText(b []byte) (err error) {
	*j, err = ParseJitter(string(b))
	return err
}

// Delays is the distribution of the delay after one attempt.
type Delays struct {
	// Attempt is the attempt that failed, from 1.
	Attempt int
	// Min and Max are the shortest and the longest possible delay; P50, P90 and
	// P99 are percentiles.
	Min, P50, P90, P99, Max time.Duration
	// Simulated is whether P50, P90 and P99 are estimates from draws, which
	// decorrelated delays need because they depend on their history. They are the
	// same at every call.
	Simulated bool
}

// MarshalJSON implements [json.Marshaler] with figures in milliseconds, as
// events have them.
func (d Delays) MarshalJSON() ([]byte, error) {
	ms := events.InMilliseconds
	return json.Marshal(struct {
		Attempt   int     `json:"attempt"`
		MinMs     float64 `json:"minMs"`
		P50Ms     float64 `json:"p50Ms"`
		P90Ms     float64 `json:"p90Ms"`
		P99Ms     float64 `json:"p99Ms"`
		MaxMs     float64 `json:"maxMs"`
		Simulated bool    `json:"simulated,omitempty"`
	}{d.Attempt, ms(d.Min), ms(d.P50), ms(d.P90), ms(d.P99), ms(d.Max), d.Simulated})
}

// How decorrelated delays are simulated. An error of p99 of about 0.3 percentage
// points, which is sqrt(0.99 × 0.01 / 1000), is well below what a reader can use.
const (
	simulatedRuns = 1000
	// simulatedSteps is the attempt from which on the distribution is taken as
	// stationary: delays have long reached their cap by then.
	simulatedSteps = 100
)

// Delays returns the distribution of the delay after the given attempt of an
// operation of that priority, if every earlier decision saw the same signals. It
// leaves Retry-After out of account.
//
// Except for decorrelated jitter, delays are uniform between a and b, so that the
// quantile q is a + q × (b − a).
func (p *Policy) Delays(attempt int, priority events.Priority, s Signals) Delays {
	attempt = max(attempt, 1)
	product := 1.0
	if p.Adapts() {
		product = p.factors(&s, freshness(s.Age), priority).Product()
	}
	if p.JitterType == DecorrelatedJitter && attempt > 1 {
		return p.simulate(attempt, product)
	}
	low, high := p.spread(attempt, 0, product)
	at := func(q float64) time.Duration { return p.draw(low, high, func() float64 { return q }) }
	return Delays{Attempt: attempt, Min: at(0), P50: at(0.5), P90: at(0.9), P99: at(0.99), Max: at(1)}
}

// simulate returns the distribution of a decorrelated delay. Min and Max are exact:
// they come from the lowest and the highest draws throughout.
func (p *Policy) simulate(attempt int, product float64) Delays {
	steps := min(attempt, simulatedSteps)
	after := func(random func() float64) (previous time.Duration) {
		for n := 1; n <= steps; n++ {
			low, high := p.spread(n, previous, product)
			previous = p.draw(low, high, random)
		}
		return previous
	}
	source := rand.New(rand.NewPCG(1, 2))
	runs := make([]time.Duration, simulatedRuns)
	for i := range runs {
		runs[i] = after(source.Float64)
	}
	slices.Sort(runs)
	at := func(q float64) time.Duration { return runs[int(math.Ceil(q*simulatedRuns))-1] }
	return Delays{
		Attempt: attempt, P50: at(0.5), P90: at(0.9), P99: at(0.99), Simulated: true,
		Min: after(func() float64 { return 0 }), Max: after(func() float64 { return 1 }),
	}
}
