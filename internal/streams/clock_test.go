package streams

import (
	"testing"
	"time"
)

func TestClock_OnlyWhatIsSurelyBetterIsTakenOver(t *testing.T) {
	begin := time.Now()
	for name, c := range map[string]struct {
		offset, trip, ahead time.Duration // previous offset, round trip, server's lead in the middle of it
		want                time.Duration
	}{
		"the clocks agree":                        {0, 10 * time.Millisecond, 2 * time.Millisecond, 0},
		"a slow answer says little":               {0, 400 * time.Millisecond, 150 * time.Millisecond, 0},
		"ours is an hour behind":                  {0, 10 * time.Millisecond, time.Hour, time.Hour},
		"ours is an hour ahead":                   {0, 10 * time.Millisecond, -time.Hour, -time.Hour},
		"what was known still holds":              {time.Hour, 10 * time.Millisecond, time.Hour + time.Millisecond, time.Hour},
		"our clock was set right in the meantime": {time.Hour, 10 * time.Millisecond, 0, 0},
	} {
		clock := Clock{offset: c.offset}
		clock.observe(begin, begin.Add(c.trip), begin.Add(c.trip/2+c.ahead))
		if clock.offset != c.want {
			t.Errorf("%s: the offset is %s, want %s", name, clock.offset, c.want)
		}
	}
}
