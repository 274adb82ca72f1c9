package policy

import (
	"fmt"
	"math"
	"time"
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
		return 0 // or 0 × ∞ would be no number
	}
	return min(base*power(p.Multiplier, attempt-1), limit)
}

// power returns x^n for x from 1 and n from 0 by repeated squaring, at most 64
// steps, and +∞ where that overflows. A smaller x or none counts as 1.
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

// nanoseconds returns d as a float, a negative d as 0.
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

// String returns the word that stands for s in policy files and attributes.
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

// word returns the i-th word, or the number where there is none.
func word(words []string, i int) string {
	if i >= 0 && i < len(words) {
		return words[i]
	}
	return fmt.Sprint(i)
}

// parseWord returns the place of s among words.
func parseWord(words []string, s, accepted string) (int, error) {
	for i, w := range words {
		if w == s {
			return i, nil
		}
	}
	return 0, fmt.Errorf("%q is not %s", s, accepted)
}
