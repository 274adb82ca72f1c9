package natsconn_test

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rebound-mq/rebound/internal/natsconn"
)

// ask gives a clock an answer of a server whose clock is off, with those delays of the
// request and of the answer.
func ask(c *natsconn.Clock, off, there, back time.Duration) {
	asked := c.Host()
	time.Sleep(there) //nolint:forbidigo // virtual time
	server := time.Now().Add(off).Round(0)
	time.Sleep(back) //nolint:forbidigo // virtual time
	c.Saw(asked, server, c.Host())
}

func TestClock_HostThatAgreesWithTheServerKeepsItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := natsconn.NewClock(nil)
		for range 100 {
			ask(c, 0, time.Duration(rand.IntN(20))*time.Millisecond, time.Duration(rand.IntN(20))*time.Millisecond)
			if now := time.Now(); !c.Now().Equal(now) || c.Skew() != 0 {
				t.Fatalf("the clock says %v and a skew of %s, want %v", c.Now(), c.Skew(), now)
			}
			time.Sleep(2 * time.Second) //nolint:forbidigo // virtual time
		}
	})
}

func TestClock_IsNeverAheadOfTheServerWhateverTheHostSays(t *testing.T) {
	for name, skew := range map[string]time.Duration{"ahead": time.Hour, "behind": -time.Hour, "a little ahead": 30 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := natsconn.NewClock(func() time.Time { return time.Now().Add(skew) })
				for i := range 100 {
					ask(c, 0, time.Duration(rand.IntN(10))*time.Millisecond, time.Duration(1+rand.IntN(10))*time.Millisecond)
					late := time.Since(c.Now())
					if i > 10 && late > 10*time.Millisecond || late < 0 {
						t.Fatalf("after %d answers the clock is late by %s", i+1, late)
					}
					time.Sleep(time.Duration(rand.IntN(5000)) * time.Millisecond) //nolint:forbidigo // virtual time
					if late := time.Since(c.Now()); late < 0 {
						t.Fatalf("after a while the clock is ahead by %s", -late)
					}
				}
				if got := c.Skew(); (got - skew).Abs() > 20*time.Millisecond {
					t.Errorf("the skew is %s, want about %s", got, skew)
				}
			})
		})
	}
}

func TestClock_FollowsAnotherServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := natsconn.NewClock(nil)
		for _, off := range []time.Duration{0, -time.Minute, time.Minute, 0} {
			ask(c, off, time.Millisecond, time.Millisecond)
			if d := time.Until(c.Now()) - off; d.Abs() > 5*time.Millisecond {
				t.Errorf("by a server that is off by %s the clock is off by %s more", off, d)
			}
		}
	})
}

func TestClock_HostThatDiffersIsAProblem(t *testing.T) {
	for skew, want := range map[time.Duration]string{
		0:                             "",
		50 * time.Millisecond:         "",
		-50 * time.Millisecond:        "",
		250 * time.Millisecond:        "the clock of the host is 250ms ahead of the NATS server's",
		-time.Hour - time.Millisecond: "the clock of the host is 1h0m0s behind the NATS server's",
	} {
		server := time.Now()
		host := server.Add(skew)
		c := natsconn.NewClock(func() time.Time { return host })
		c.Saw(host, server, host)
		if got := c.Problem(); got != want {
			t.Errorf("a host that is %s ahead: %q, want %q", skew, got, want)
		}
	}
}
