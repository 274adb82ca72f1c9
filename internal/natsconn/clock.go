package natsconn

import (
	"fmt"
	"sync"
	"time"
)

// drift is how fast two clocks may drift apart, in parts per million. Clocks that are being
// slewed drift by up to 500.
const drift = 500

// MaxSkew is how much the host's clock may differ from the server's before a warning.
const MaxSkew = 100 * time.Millisecond

// Clock estimates the time of a NATS server. Answers with a time stamp bound that time from
// both sides: the server wrote the stamp after the request and before the receipt. While the
// host's own clock is within the bounds, Clock returns the host's time; otherwise it returns
// the lower bound, so that nothing is done early. A step of the host's clock does no harm,
// because the time since the last answer is measured by its monotonic clock.
//
// The service uses this clock. The stores of breakers and limits use [streams.Clock] instead:
// they compare times written by several instances, so they need the smallest error either
// way and ask the leader of their own bucket, which may be another server.
type Clock struct {
	host func() time.Time
	base time.Time // the host's time when the clock was made

	mu        sync.Mutex // guards the fields below
	measured  bool
	at        time.Duration // when the bounds were taken, since base
	low, high time.Duration // bounds of the server's time minus base and the time since
}

// NewClock returns a clock on top of the host's, [time.Now] when nil. It returns the host's
// time until the first [Clock.Saw].
func NewClock(host func() time.Time) *Clock {
	if host == nil {
		host = time.Now
	}
	return &Clock{host: host, base: host()}
}

// Host returns the time of the host, as [Clock.Saw] takes it.
func (c *Clock) Host() time.Time { return c.host() }

// Saw takes an answer with the server's time into account: asked is when it was requested
// and heard when it arrived, both by [Clock.Host].
func (c *Clock) Saw(asked, server, heard time.Time) {
	elapsed := heard.Sub(c.base)
	low := server.Sub(c.base.Round(0)) - elapsed
	high := server.Sub(c.base.Round(0)) - asked.Sub(c.base)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.measured {
		known, most := c.bounds(elapsed)
		if l, h := max(low, known), min(high, most); l <= h {
			low, high = l, h
		} // else another server answers, or a clock was set
	}
	c.measured, c.at, c.low, c.high = true, elapsed, low, high
}

// bounds returns the bounds after that much time. The caller has the lock.
func (c *Clock) bounds(elapsed time.Duration) (low, high time.Duration) {
	drifted := max(elapsed-c.at, 0) / 1_000_000 * drift
	return c.low - drifted, c.high + drifted
}

// Now returns the server's time.
func (c *Clock) Now() time.Time {
	now, _ := c.read()
	return now
}

// Until returns how long it is until t by the server's time.
func (c *Clock) Until(t time.Time) time.Duration { return t.Sub(c.Now()) }

// Skew returns by how much at least the host's clock is ahead of the server's. It is
// negative if the host's is behind.
func (c *Clock) Skew() time.Duration {
	_, skew := c.read()
	return skew
}

// Problem says how much the host's clock differs from the server's, and is empty while that
// is not worth a warning.
func (c *Clock) Problem() string {
	skew := c.Skew()
	if skew.Abs() > 10*time.Second {
		skew = skew.Round(time.Second)
	}
	skew = skew.Round(time.Millisecond)
	switch {
	case skew > MaxSkew:
		return fmt.Sprintf("the clock of the host is %s ahead of the NATS server's", skew)
	case skew < -MaxSkew:
		return fmt.Sprintf("the clock of the host is %s behind the NATS server's", -skew)
	}
	return ""
}

func (c *Clock) read() (now time.Time, skew time.Duration) {
	now = c.host()
	elapsed := now.Sub(c.base)
	// Without its monotonic reading a time is compared by the wall clock.
	now = now.Round(0)
	stepped := now.Sub(c.base.Round(0)) - elapsed
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.measured {
		return now, 0
	}
	low, high := c.bounds(elapsed)
	switch {
	case stepped < low:
		skew = stepped - low
	case stepped > high:
		skew = stepped - high
	default:
		return now, 0
	}
	return now.Add(low - stepped), skew
}
