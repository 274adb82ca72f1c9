package streams

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Clock is the clock of the server that leads a stream, by which instances go that share
// what the stream keeps and whose own clocks differ. The zero value goes by our own clock.
// It is safe for concurrent use.
//
// It takes the time of an answer to be half way between question and receipt, which is
// the smallest error. The clock by which the service waits, natsconn.Clock, takes the
// earliest time that the answer allows instead, so that nothing is done early. The two
// may also be those of different servers.
type Clock struct {
	mu     sync.Mutex // guards what follows
	offset time.Duration
	asked  time.Time
}

const (
	// clockAge is after how long the clock is compared again.
	clockAge = 10 * time.Second
	// clockGrain is how exact it is at best.
	clockGrain = time.Millisecond
)

// Now returns the time, and asks the leader of the stream for it now and then. A leader
// that does not answer leaves the clock as it is.
func (c *Clock) Now(ctx context.Context, js jetstream.JetStream, stream string) time.Time {
	c.mu.Lock()
	due := time.Since(c.asked) >= clockAge
	if due {
		c.asked = time.Now()
	}
	c.mu.Unlock()
	if due {
		ctx, cancel := context.WithTimeout(ctx, oneTry)
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

// observe takes over what a server said to be the time between before and after. Half
// the round trip may be wrong about it, so only what is surely better is taken over.
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
