package streams

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Clock is the clock of the server that leads a stream. Instances that share data in the stream
// use it because their own clocks differ. The zero value is the local clock. It is safe for
// concurrent use.
//
// It assumes that the answer was given half way between request and receipt, which minimises the
// error. The clock by which the service waits, natsconn.Clock, assumes the earliest possible time
// instead, so that nothing is done early. The two may also be clocks of different servers.
type Clock struct {
	mu     sync.Mutex // guards the fields below
	offset time.Duration
	asked  time.Time
}

const (
	// clockAge is how often the clock is compared.
	clockAge = 10 * time.Second
	// clockGrain is its best precision.
	clockGrain = time.Millisecond
)

// Now returns the time. It asks the leader of the stream now and then; if the leader does not
// answer, the offset stays as it is.
func (c *Clock) Now(ctx context.Context, js jetstream.JetStream, stream string) time.Time {
	c.mu.Lock()
	due := time.Since(c.asked) >= clockAge
	if due {
		c.asked = time.Now()
	}
	c.mu.Unlock()
	if due {
		ctx, cancel := context.WithTimeout(ctx, tryTimeout)
		defer cancel()
		before := time.Now()
		if s, err := js.Stream(ctx, stream); err == nil {
			c.observe(before, time.Now(), s.CachedInfo().TimeStamp)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset).Round(0).UTC()
}

// observe records the time that a server returned between before and after. It may be wrong by
// half the round trip, so a smaller difference is ignored.
func (c *Clock) observe(before, after, said time.Time) {
	if said.IsZero() {
		return
	}
	half := after.Sub(before) / 2
	offset := said.Sub(before.Add(half))
	c.mu.Lock()
	defer c.mu.Unlock()
	if d := offset - c.offset; d.Abs() > half+clockGrain {
		c.offset = offset
	}
}
