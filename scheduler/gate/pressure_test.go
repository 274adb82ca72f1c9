package gate

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestPressure_TurnsOnAndOff(t *testing.T) {
	on := Pressure{On: true, Cause: PressureLoad, Since: at(0)}
	for name, c := range map[string]struct {
		before Pressure
		now    time.Time
		m      Measures
		want   Pressure
	}{
		"nothing to do":                         {Pressure{}, at(0), Measures{}, Pressure{}},
		"too many active retries":               {Pressure{}, at(9), Measures{Active: 10_000}, Pressure{true, PressureActive, at(9)}},
		"as many as may be, less one":           {Pressure{}, at(9), Measures{Active: 9_999}, Pressure{}},
		"too many failures":                     {Pressure{}, at(9), Measures{FailureRate: 0.8, Samples: 1000}, Pressure{true, PressureFailures, at(9)}},
		"too few samples":                       {Pressure{}, at(9), Measures{FailureRate: 1, Samples: 999}, Pressure{}},
		"every second attempt failing":          {Pressure{}, at(9), Measures{FailureRate: 0.5, Samples: 100_000}, Pressure{}},
		"an overloaded host":                    {Pressure{}, at(9), Measures{Load: 4.5}, Pressure{true, PressureLoad, at(9)}},
		"a slow store":                          {Pressure{}, at(9), Measures{StoreDelay: time.Second}, Pressure{true, PressureStore, at(9)}},
		"the first of several causes is named":  {Pressure{}, at(9), Measures{Load: 9, Active: 20_000}, Pressure{true, PressureActive, at(9)}},
		"it stays on between the marks":         {on, at(60), Measures{Load: 3}, on},
		"it stays on for a while":               {on, at(4), Measures{}, on},
		"it ends below the lower mark":          {on, at(60), Measures{Load: 2.8}, Pressure{Since: at(60)}},
		"it names the cause that keeps it on":   {on, at(60), Measures{StoreDelay: 800 * time.Millisecond}, Pressure{true, PressureStore, at(0)}},
		"it does not turn on between the marks": {Pressure{}, at(60), Measures{Load: 3.9, Active: 9_000}, Pressure{}},
	} {
		got, changed := c.before.Step(c.m, Limits{Load: 4}, c.now)
		if got != c.want || changed != (c.before.On != c.want.On) {
			t.Errorf("%s: backpressure is %+v, changed %t, want %+v", name, got, changed, c.want)
		}
	}
}

func TestPressure_SaysWhenItCanEnd(t *testing.T) {
	on := Pressure{On: true, Cause: PressureLoad, Since: at(10)}
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
			m := Measures{Load: rapid.Float64Range(0, 8).Draw(t, "load"), Active: rapid.IntRange(0, 20_000).Draw(t, "active")}
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
