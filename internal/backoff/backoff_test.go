package backoff

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func TestBackoff_DoublesFromTheFirstPauseToTheLongest(t *testing.T) {
	b := Backoff{First: 100 * time.Millisecond, Longest: time.Second, Random: func() float64 { return 0.5 }}
	for i, want := range []int{100, 200, 400, 800, 1000, 1000} {
		if got := b.Next().Milliseconds(); got != int64(want) {
			t.Errorf("pause %d is %d ms, want %d", i+1, got, want)
		}
	}
	b.Reset()
	if got := b.Next(); got != 100*time.Millisecond {
		t.Errorf("the pause after a reset is %s, want 100ms", got)
	}
}

func TestBackoff_StaysWithinItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		longest := time.Duration(rapid.Int64Range(1, math.MaxInt64/2).Draw(t, "longest"))
		first := time.Duration(rapid.Int64Range(1, int64(longest)).Draw(t, "first"))
		random := rapid.Float64Range(0, math.Nextafter(1, 0)).Draw(t, "random")
		b := Backoff{First: first, Longest: longest, Random: func() float64 { return random }}
		for range 70 {
			if d := b.Next(); d < first/2 || float64(d) > 1.5*float64(longest)*(1+1e-9) {
				t.Fatalf("a pause of %s is not between half of %s and one and a half of %s", d, first, longest)
			}
		}
	})
}

func TestBackoff_SpreadsThoseThatFailedTogether(t *testing.T) {
	seen := make(map[time.Duration]bool)
	for range 20 {
		b := Backoff{First: time.Second, Longest: time.Minute}
		seen[b.Next()] = true
	}
	if len(seen) < 15 {
		t.Errorf("20 first pauses have %d different lengths, want nearly 20", len(seen))
	}
}

func TestSleep_EndsWithTheTimeTheContextOrTheStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if !Sleep(t.Context(), time.Hour) || time.Since(began) != time.Hour {
			t.Errorf("an hour's sleep ended after %s", time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began = time.Now()
		if Sleep(ctx, time.Hour) || time.Since(began) != time.Minute {
			t.Errorf("a sleep whose context ends after a minute ended after %s", time.Since(began))
		}
		if Sleep(ctx, 0) {
			t.Error("a sleep whose context has ended says that it ran its course")
		}
		stop := make(chan struct{})
		time.AfterFunc(time.Second, func() { close(stop) })
		began = time.Now()
		if SleepUnless(t.Context(), time.Hour, stop) || time.Since(began) != time.Second {
			t.Errorf("a sleep that is stopped after a second ended after %s", time.Since(began))
		}
	})
}
