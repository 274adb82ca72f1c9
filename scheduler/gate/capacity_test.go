package gate

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// throttled steps a throttle once a second with the same measures and returns it after each.
func throttled(t Throttle, u Usage, seconds int) Throttle {
	for range seconds {
		t = t.Step(u, Limits{}, t.at.Add(time.Second))
	}
	return t
}

func TestThrottle_LowersTheLimitOfWhatIsInHand(t *testing.T) {
	calm := Usage{InHand: 1000, Most: 8192}
	with := func(change func(*Usage)) Usage {
		u := calm
		change(&u)
		return u
	}
	slow := with(func(u *Usage) { u.StoreDelay, u.Ended = time.Second, 5000 })
	for name, c := range map[string]struct {
		before  Throttle
		u       Usage
		seconds int
		limit   int
		cause   ThrottleCause
	}{
		"nothing to do":                        {Throttle{}, calm, 9, 0, ""},
		"a slow store":                         {Throttle{}, slow, 1, 700, ThrottleStore},
		"memory that is almost used up":        {Throttle{}, with(func(u *Usage) { u.Memory, u.Ended = 0.95, 5000 }), 1, 700, ThrottleMemory},
		"hardly anything ends":                 {Throttle{}, with(func(u *Usage) { u.Memory, u.Ended = 0.95, 100 }), 1, 950, ThrottleMemory},
		"nothing ends":                         {Throttle{}, with(func(u *Usage) { u.Memory = 0.95 }), 9, 1000, ThrottleMemory},
		"a sixteenth is left":                  {Throttle{}, with(func(u *Usage) { u.InHand, u.Memory = 3, 1 }), 9, 512, ThrottleMemory},
		"64 are left of few":                   {Throttle{}, Usage{InHand: 3, Most: 100, Memory: 1}, 9, 64, ThrottleMemory},
		"fewer may be left of fewer":           {Throttle{}, Usage{InHand: 3, Most: 10, Memory: 1}, 9, 10, ThrottleMemory},
		"too many retries":                     {Throttle{}, with(func(u *Usage) { u.Active = 10_000 }), 9, 1000, ThrottleActive},
		"one for one even when many end":       {Throttle{}, with(func(u *Usage) { u.Active, u.Ended = 10_000, 900 }), 1, 1000, ThrottleActive},
		"memory is named before others":        {Throttle{}, with(func(u *Usage) { u.Active, u.Memory, u.StoreDelay = 20_000, 0.9, time.Hour }), 1, 1000, ThrottleMemory},
		"between the marks the limit stays":    {throttled(Throttle{}, slow, 1), with(func(u *Usage) { u.StoreDelay = 900 * time.Millisecond }), 9, 700, ThrottleStore},
		"below the lower mark it grows":        {throttled(Throttle{}, slow, 1), calm, 2, 1724, ThrottleStore},
		"until it is no limit":                 {throttled(Throttle{}, slow, 1), calm, 15, 0, ""},
		"it turns to another cause":            {throttled(Throttle{}, slow, 1), with(func(u *Usage) { u.Active = 10_000 }), 1, 700, ThrottleActive},
		"between the marks it is not lowered":  {Throttle{}, with(func(u *Usage) { u.StoreDelay, u.Active = 999*time.Millisecond, 9_999 }), 9, 0, ""},
		"all limits at once, but turned off":   {Throttle{limit: 100, cause: ThrottleStore}, calm, 16, 0, ""},
		"the instance was restarted with less": {Throttle{limit: 5000, cause: ThrottleStore}, Usage{InHand: 50, Most: 1000, StoreDelay: 800 * time.Millisecond}, 1, 1000, ThrottleStore},
	} {
		limit, cause, limited := throttled(c.before, c.u, c.seconds).Limit()
		if limit != c.limit || cause != c.cause || limited != (c.cause != "") {
			t.Errorf("%s: the limit is %d because of %q, limited %t; want %d because of %q", name, limit, cause, limited, c.limit, c.cause)
		}
	}
}

func TestThrottle_LimitThatIsOffLimitsNothing(t *testing.T) {
	u := Usage{Memory: 1, StoreDelay: time.Hour, Active: 1e6, InHand: 1000, Most: 8192}
	throttle := Throttle{}.Step(u, Limits{Memory: Off, StoreDelay: Off, Active: Off}, begin)
	if limit, cause, limited := throttle.Limit(); limited {
		t.Errorf("with all limits off the limit is %d because of %q, want none", limit, cause)
	}
}

func TestThrottle_NeverStopsAndEndsByItself(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var throttle Throttle
		most := rapid.IntRange(1, 100_000).Draw(t, "most")
		now, ended := begin, uint64(0)
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "later")) * time.Millisecond)
			ended += uint64(rapid.IntRange(0, 2*most).Draw(t, "ended"))
			u := Usage{
				Memory: rapid.Float64Range(0, 1).Draw(t, "memory"), StoreDelay: time.Duration(rapid.IntRange(0, 2000).Draw(t, "delay")) * time.Millisecond,
				Active: rapid.IntRange(0, 20_000).Draw(t, "active"), InHand: rapid.IntRange(0, most).Draw(t, "in hand"), Most: most, Ended: ended,
			}
			after := throttle.Step(u, Limits{}, now)
			limit, _, limited := after.Limit()
			before := most
			if n, _, was := throttle.Limit(); was {
				before = n
			}
			soaked := min(before, u.InHand) - limit
			if limited && (limit < 1 || limit > most || soaked > int(ended-throttle.ended)/2) {
				t.Fatalf("of %d in hand %d may stay after %d ended, want at least 1 and every second one to make place", u.InHand, limit, ended-throttle.ended)
			}
			throttle = after
		}
		for i := range 18 {
			throttle = throttle.Step(Usage{Most: most, Ended: ended}, Limits{}, now.Add(time.Duration(i+1)*time.Second))
		}
		if limit, cause, limited := throttle.Limit(); limited {
			t.Fatalf("18 s after all measures are well the limit is %d of %d because of %q, want none", limit, most, cause)
		}
	})
}

func TestOverload_FollowsWhatTheInstanceWaitsFor(t *testing.T) {
	starved := Saturation{SchedulerDelay: 200 * time.Millisecond, CPUPressure: 0.5}
	for name, c := range map[string]struct {
		s       Saturation
		limits  Limits
		seconds int
		want    float64
	}{
		"nothing to wait for":                {Saturation{}, Limits{}, 10, 0},
		"memory is no matter of CPU":         {Saturation{Memory: 1}, Limits{}, 10, 0},
		"a moment of waiting hardly shows":   {starved, Limits{}, 1, 1.17},
		"half of the level after two":        {starved, Limits{}, 2, 2},
		"a starved instance":                 {starved, Limits{}, 20, 4},
		"pressure alone":                     {Saturation{CPUPressure: 1}, Limits{}, 20, 2},
		"off the scale":                      {Saturation{SchedulerDelay: time.Hour}, Limits{}, 30, 8},
		"a limit of its own":                 {starved, Limits{SchedulerDelay: time.Second, CPUPressure: 0.1}, 20, 5},
		"a limit that is off does not count": {starved, Limits{SchedulerDelay: Off}, 20, 1},
		"limits that are off":                {starved, Limits{SchedulerDelay: Off, CPUPressure: Off}, 20, 0},
	} {
		o := Overload{at: begin}
		for i := range c.seconds {
			o = o.Step(c.s, c.limits, at(float64(i+1)))
		}
		if got := o.Level(); math.Abs(got-c.want) > 0.01 {
			t.Errorf("%s: after %d s the level is %.2f, want %.2f", name, c.seconds, got, c.want)
		}
	}
	o := Overload{at: begin}.Step(starved, Limits{}, at(60)).Step(Saturation{}, Limits{}, at(66))
	if got := o.Level(); math.Abs(got-0.5) > 0.01 {
		t.Errorf("six seconds after the instance was starved the level is %.2f, want 0.50", got)
	}
}

func TestThreshold_GreedyKeysAlwaysLeaveRoomForOneMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		capacity := rapid.IntRange(1, 10_000).Draw(t, "capacity")
		keys := make([]int, rapid.IntRange(1, 40).Draw(t, "greedy keys"))
		used := 0
		for grown := true; grown; {
			grown = false
			for i := range keys {
				if keys[i] < Threshold(capacity, used) && used < capacity {
					keys[i]++
					used++
					grown = true
				}
			}
		}
		// Of n keys each gets αB/(1+nα), so B/(1+nα) is free.
		if want := capacity/(1+shareFactor*len(keys)) - 1; capacity-used < want {
			t.Fatalf("%d greedy keys leave %d of %d, want %d at least", len(keys), capacity-used, capacity, want)
		}
		if len(keys) == 1 && used < capacity*3/4 {
			t.Fatalf("a key that is alone gets %d of %d, want three quarters at least", used, capacity)
		}
	})
}

func TestThreshold_AKeyWithNothingInFlightMayAlwaysSend(t *testing.T) {
	if got := Threshold(100, 300); got != 1 {
		t.Errorf("the threshold of an instance that is full is %d, want 1", got)
	}
}
