package scheduler

import "time"

// spread returns between which two delays, in nanoseconds, p draws at random
// after the given attempt; product is that of the adaptive factors. With d the
// strategy's delay times product, capped:
//
//	none          d to d
//	full          0 to d
//	equal         d/2 to d
//	decorrelated  base × product to previous × 3 × product
//
// A decorrelated draw is brought into [base, cap] afterwards, by draw; with no
// previous delay it starts from base.
func (p *Policy) spread(attempt int, previous time.Duration, product float64) (low, high float64) {
	limit := nanoseconds(p.MaxDelay)
	if p.JitterType == DecorrelatedJitter {
		base := min(nanoseconds(p.BaseDelay), limit)
		return base * product, max(base, min(nanoseconds(previous), limit), 0) * 3 * product
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

// draw returns a delay between low and high within p's bounds.
func (p *Policy) draw(low, high float64, random func() float64) time.Duration {
	if high > low {
		r := random()
		if !(r >= 0) {
			r = 0
		}
		low += (high - low) * min(r, 1)
	}
	d := duration(low, p.MaxDelay)
	if p.JitterType == DecorrelatedJitter {
		d = max(d, min(p.BaseDelay, p.MaxDelay), 0)
	}
	return d
}

var jitterWords = [...]string{NoJitter: "none", FullJitter: "full", EqualJitter: "equal", DecorrelatedJitter: "decorrelated"}

// String returns the word that stands for j in policy files and attributes.
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
