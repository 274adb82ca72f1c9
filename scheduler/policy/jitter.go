package policy

import "time"

// spread returns between which two delays, in nanoseconds, p draws at random
// after the given attempt; product is that of the adaptive factors. With d the
// strategy's delay times product, capped:
//
//	none          d to d
//	full          0 to d
//	equal         d/2 to d
//	decorrelated  b to 3 × the previous delay, with b = base × product
//
// The previous delay counts as b at least, and bears the factors of its own
// decision already: were it multiplied again, a product of 3 would make of a
// growth by 3 one by 9, and one of ½ would end all growth. A decorrelated draw is
// brought into [base, cap] afterwards, by draw.
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

// draw returns a delay between low and high within p's bounds. Both ends are
// weighted, rather than a share of their distance added to one, so that rounding
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
