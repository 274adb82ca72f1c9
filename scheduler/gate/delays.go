package gate

import "time"

// Delays are the last delays of an instance's own: how long a request to itself took, which
// passes everything that an attempt passes but a target. The zero value knows of none.
type Delays struct {
	last [delaySpan]time.Duration // each in turn
	n    int
}

// delaySpan is how many delays count. The largest of them is what chance may add to the
// next answer.
const delaySpan = 16

// Add records a delay.
func (d *Delays) Add(delay time.Duration) {
	d.last[d.n%delaySpan] = delay
	d.n++
}

// Own returns how much of a response time may be the instance's own delay: the largest of
// the last delays.
func (d *Delays) Own() time.Duration {
	var longest time.Duration
	for _, delay := range d.last {
		longest = max(longest, delay)
	}
	return longest
}
