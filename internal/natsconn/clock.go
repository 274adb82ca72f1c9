package natsconn

import (
	"fmt"
	"sync"
	"time"
)

// drift is by how much two clocks may come to differ, in parts of a million. Clocks that
// are being slewed differ by up to 500.
const drift = 500

// MaxSkew is by how much the host's clock may differ from the server's before that is
// worth a warning.
const MaxSkew = 100 * time.Millisecond

// Clock tells the time of a NATS server. It knows two bounds of that time from answers
// that bear it: the server wrote it after the question and before the receipt. While
// the host's own clock is within the bounds it is the host's time; else the lower bound,
// so that nothing is done early. A step of the host's clock does no harm, because what
// passed since the last answer is measured by its monotonic clock.
//
// The service goes by this clock. It differs on purpose from [streams.Clock], by which
// the stores of breakers and limits go: those compare moments that several instances
// wrote, so that they want the smallest error either way and ask the leader of their own
// bucket, which may be another server.
type Clock struct {
	host func() time.Time
	base time.Time // the host's when the clock was made

	mu        sync.Mutex // guards what follows
	measured  bool
	at        time.Duration // when the bounds were taken, since base
	low, high time.Duration // of the server's time less base and what passed since
}

// NewClock returns a clock on the host's, [time.Now] when nil. It is the host's until
// the first [Clock.Saw].
func NewClock(host func() time.Time) *Clock {
	if host == nil {
		host = time.Now
	}
	return &Clock{host: host, base: host()}
}

// Host returns the time of the host, as [Clock.Saw] takes it.
func (c *Clock) Host() time.Time { return c.host() }

// Saw takes an answer of the server into account that bears its time: asked is when it
// was asked for and heard when it came, both by [Clock.Host].
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

// bounds returns the bounds as they are after so long. The caller has the lock.
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

// Skew returns by how much the host's clock is ahead of the server's at least. It is
// negative when the host's is behind.
func (c *Clock) Skew() time.Duration {
	_, skew := c.read()
	return skew
}

// Problem says by how much the host's clock differs from the server's, and is empty while
// that is not worth a warning.
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
	// Without its monotonic reading a time stands for itself.
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
