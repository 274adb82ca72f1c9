package health

import (
	"math"
	"slices"
	"time"
)

const (
	// Samples bounds the remembered attempts of a service.
	Samples = 100
	// MaxAge bounds how long an attempt is remembered.
	MaxAge = time.Hour
	// recent is how many of the latest response times the trend compares with the earlier ones.
	recent = 10
	// quick is the response time, in seconds, up to which the trend goes by the absolute change:
	// an answer after 2 ms instead of 1 is no slower target.
	quick = 0.02
)

// ring holds the latest samples of a service, at most [Samples]. It computes its figures once per
// sample, so that reading them costs nothing.
type ring struct {
	at      [Samples]int64   // time of the sample, in Unix nanoseconds
	seconds [Samples]float64 // response times, negative for none
	next    int              // index of the next sample
	count   int
	// hi and lo have a bit for each sample, 1 for a failure, with the latest in the lowest bit of
	// lo.
	hi, lo uint64

	mean      float64 // mean response time in seconds, 0 for none
	variation float64 // squared coefficient of variation
	trend     float64
}

// add adds a sample. A negative response time means none.
func (r *ring) add(failed bool, response time.Duration, now int64) {
	for r.count > 0 && now-r.at[r.index(r.count-1)] > int64(MaxAge) {
		r.count--
	}
	r.at[r.next] = now
	r.seconds[r.next] = -1
	if response >= 0 {
		r.seconds[r.next] = max(response, time.Nanosecond).Seconds()
	}
	r.next = (r.next + 1) % Samples
	r.count = min(r.count+1, Samples)
	r.hi, r.lo = r.hi<<1|r.lo>>63, r.lo<<1
	if failed {
		r.lo |= 1
	}
	r.compute()
}

// index returns the index of the sample with an age, counted in samples from the latest.
func (r *ring) index(age int) int { return (r.next - 1 - age + 2*Samples) % Samples }

// size returns the number of samples at now. It returns 0 once the latest is forgotten.
func (r *ring) size(now int64) int {
	if r.count == 0 || now-r.at[r.index(0)] > int64(MaxAge) {
		return 0
	}
	return r.count
}

// compute computes the figures of the response times.
func (r *ring) compute() {
	var sum, squares, late float64
	n := 0
	for age := range r.count {
		s := r.seconds[r.index(age)]
		if s < 0 {
			continue
		}
		if n < recent {
			late += s
		}
		sum, squares = sum+s, squares+s*s
		n++
	}
	r.mean, r.variation, r.trend = 0, 0, 0
	if n == 0 {
		return
	}
	count := float64(n)
	r.mean = sum / count
	r.variation = max(squares/count/(r.mean*r.mean)-1, 0)
	if n >= 2*recent {
		before := (sum - late) / (count - recent)
		r.trend = (late/recent - before) / max(before, quick)
	}
}

// percentile returns the p-th percentile of the response times in seconds, by nearest rank; ok is
// false if there are none.
func (r *ring) percentile(p float64) (seconds float64, ok bool) {
	var sorted []float64
	for age := range r.count {
		if s := r.seconds[r.index(age)]; s >= 0 {
			sorted = append(sorted, s)
		}
	}
	if len(sorted) == 0 {
		return 0, false
	}
	slices.Sort(sorted)
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1], true
}
