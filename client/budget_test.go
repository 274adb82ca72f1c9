package client

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The budget's bound is checked against a plain list of the retries it allowed.
func TestBudget_IsNeverExceededInAnyWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		perMinute, perHour := rapid.IntRange(0, 5).Draw(t, "per minute"), rapid.IntRange(0, 20).Draw(t, "per hour")
		b := newBudget()
		b.limit(perMinute, perHour)
		now := time.Unix(1_700_000_000, 0)
		var taken []time.Time
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			now = now.Add(rapid.SampledFrom([]time.Duration{0, time.Millisecond, 999 * time.Millisecond, 20 * time.Second, time.Minute, 10 * time.Minute, 2 * time.Hour}).Draw(t, "pause"))
			before, beforeNext := b.check(now)
			limit, next := b.take(now)
			if before != limit || !beforeNext.Equal(next) {
				t.Fatalf("check says %q until %v and take %q until %v", before, beforeNext, limit, next)
			}
			within := func(d time.Duration) (n int) {
				for _, at := range taken {
					if now.Sub(at) < d {
						n++
					}
				}
				return n
			}
			switch {
			case limit == "":
				if perMinute > 0 && within(time.Minute) >= perMinute || perHour > 0 && within(time.Hour) >= perHour {
					t.Fatalf("a retry was allowed although %d were in the last minute and %d in the last hour", within(time.Minute), within(time.Hour))
				}
				taken = append(taken, now)
			case !next.After(now) || next.Sub(now) > time.Hour+2*time.Minute:
				t.Fatalf("a retry is refused until %v, %v from now", next, next.Sub(now))
			default:
				// Up to two sixtieths of a minute or an hour may be refused unnecessarily.
				if (perMinute == 0 || within(time.Minute+2*time.Second) < perMinute) && (perHour == 0 || within(time.Hour+2*time.Minute) < perHour) {
					t.Fatalf("a retry is refused by %s although only %d were in the last minute and %d in the last hour", limit, within(time.Minute), within(time.Hour))
				}
				later := budget{perMinute: perMinute, perHour: perHour, minute: b.minute, hour: b.hour}
				if got, _ := later.check(next); got == limit {
					t.Fatalf("at %v, when a retry is free, %s still refuses", next, limit)
				}
			}
		}
	})
}
