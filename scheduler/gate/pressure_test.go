package gate

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestPressure_TurnsOnAndOff(t *testing.T) {
	on := Pressure{On: true, Cause: PressureActive, Since: at(0)}
	off := Limits{FailureShare: Off, Services: Off, Active: Off, StoreDelay: Off}
	for name, c := range map[string]struct {
		before Pressure
		now    time.Time
		m      Measures
		limits Limits
		want   Pressure
	}{
		"nothing to do":                         {Pressure{}, at(9), Measures{}, Limits{}, Pressure{}},
		"all of three services":                 {Pressure{}, at(9), Measures{Voting: 3, Failing: 3}, Limits{}, Pressure{true, PressureFailures, at(9)}},
		"two of three services":                 {Pressure{}, at(9), Measures{Voting: 3, Failing: 2}, Limits{}, Pressure{}},
		"three of four services":                {Pressure{}, at(9), Measures{Voting: 4, Failing: 3}, Limits{}, Pressure{true, PressureFailures, at(9)}},
		"four of five services":                 {Pressure{}, at(9), Measures{Voting: 5, Failing: 4}, Limits{}, Pressure{true, PressureFailures, at(9)}},
		"three of five services":                {Pressure{}, at(9), Measures{Voting: 5, Failing: 3}, Limits{}, Pressure{}},
		"one of twenty services":                {Pressure{}, at(9), Measures{Voting: 20, Failing: 1}, Limits{}, Pressure{}},
		"the only two services":                 {Pressure{}, at(9), Measures{Voting: 2, Failing: 2}, Limits{}, Pressure{}},
		"the only two, which suffice":           {Pressure{}, at(9), Measures{Voting: 2, Failing: 2}, Limits{Services: 2}, Pressure{true, PressureFailures, at(9)}},
		"half of the services, which suffice":   {Pressure{}, at(9), Measures{Voting: 4, Failing: 2}, Limits{FailureShare: 0.5}, Pressure{true, PressureFailures, at(9)}},
		"too many active retries":               {Pressure{}, at(9), Measures{Active: 10_000}, Limits{}, Pressure{true, PressureActive, at(9)}},
		"as many as may be, less one":           {Pressure{}, at(9), Measures{Active: 9_999}, Limits{}, Pressure{}},
		"a slow store":                          {Pressure{}, at(9), Measures{StoreDelay: time.Second}, Limits{}, Pressure{true, PressureStore, at(9)}},
		"everything at once with limits off":    {Pressure{}, at(9), Measures{5, 5, 1e6, time.Hour}, off, Pressure{}},
		"the first of several causes is named":  {Pressure{}, at(9), Measures{3, 3, 20_000, time.Minute}, Limits{}, Pressure{true, PressureFailures, at(9)}},
		"it stays on between the marks":         {on, at(60), Measures{Active: 7_001}, Limits{}, on},
		"it stays on for a while":               {on, at(4), Measures{}, Limits{}, on},
		"it ends below the lower mark":          {on, at(60), Measures{Active: 7_000}, Limits{}, Pressure{Since: at(60)}},
		"it ends when limits are turned off":    {on, at(60), Measures{Active: 20_000}, off, Pressure{Since: at(60)}},
		"it names the cause that keeps it on":   {on, at(60), Measures{StoreDelay: 800 * time.Millisecond}, Limits{}, Pressure{true, PressureStore, at(0)}},
		"half of the services keep it on":       {on, at(60), Measures{Voting: 5, Failing: 3}, Limits{}, Pressure{true, PressureFailures, at(0)}},
		"it ends when half of them are well":    {on, at(60), Measures{Voting: 4, Failing: 2}, Limits{}, Pressure{Since: at(60)}},
		"it ends when nobody votes any more":    {on, at(60), Measures{}, Limits{}, Pressure{Since: at(60)}},
		"it does not turn on between the marks": {Pressure{}, at(60), Measures{Active: 9_000, StoreDelay: 900 * time.Millisecond}, Limits{}, Pressure{}},
	} {
		got, changed := c.before.Step(c.m, c.limits, c.now)
		if got != c.want || changed != (c.before.On != c.want.On) {
			t.Errorf("%s: backpressure is %+v, changed %t, want %+v", name, got, changed, c.want)
		}
	}
}

func TestPressure_SaysWhenItCanEnd(t *testing.T) {
	on := Pressure{On: true, Cause: PressureStore, Since: at(10)}
	for name, c := range map[string]struct {
		p    Pressure
		now  time.Time
		want time.Duration
	}{
		"off":                           {Pressure{Since: at(10)}, at(10), 0},
		"just turned on":                {on, at(10), 5 * time.Second},
		"on for a while":                {on, at(12), 3 * time.Second},
		"on for as long as it must be":  {on, at(15), 0},
		"on for long":                   {on, at(100), 0},
		"turned on by a clock in front": {on, at(0), 5 * time.Second},
	} {
		if got := c.p.EndsIn(c.now); got != c.want {
			t.Errorf("%s: it can end in %v, want %v", name, got, c.want)
		}
	}
}

func TestPressure_DoesNotFlicker(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p Pressure
		now, turnedOn := begin, begin
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(3*time.Second)).Draw(t, "pause")))
			m := Measures{Voting: 10, Failing: rapid.IntRange(0, 10).Draw(t, "failing"), Active: rapid.IntRange(0, 20_000).Draw(t, "active")}
			after, changed := p.Step(m, Limits{}, now)
			if changed && after.On {
				turnedOn = now
			}
			if changed && !after.On && now.Sub(turnedOn) < pressureLeast {
				t.Fatalf("backpressure was on for %v, want at least %v", now.Sub(turnedOn), pressureLeast)
			}
			p = after
		}
	})
}
