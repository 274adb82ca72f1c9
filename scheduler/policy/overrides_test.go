package policy

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestOverride_IsBoundedByThePolicy(t *testing.T) {
	p := usual() // 5 attempts, 1 s to 5 min, 10 s an attempt
	limited := usual()
	limited.MaxElapsedTime = time.Minute
	for _, tc := range []struct {
		name   string
		p      Policy
		asked  map[string]string
		change func(want *Policy)
	}{
		{"nothing", p, nil, func(*Policy) {}},
		{"attributes that override nothing", p, map[string]string{"target": "x", "maxAttempts": "1"}, func(*Policy) {}},
		{"fewer attempts", p, map[string]string{"maxattempts": "2"}, func(w *Policy) { w.MaxAttempts = 2 }},
		{"more attempts", p, map[string]string{"maxattempts": "99"}, func(*Policy) {}},
		{"a longer cap", p, map[string]string{"maxdelay": "1000h"}, func(*Policy) {}},
		{"a shorter cap", p, map[string]string{"maxdelay": "5s"}, func(w *Policy) { w.MaxDelay = 5 * time.Second }},
		{"a cap below the base", p, map[string]string{"maxdelay": "500"}, func(w *Policy) { w.MaxDelay, w.BaseDelay = 500*time.Millisecond, 500*time.Millisecond }},
		{"a base over the cap", p, map[string]string{"basedelay": "1h"}, func(w *Policy) { w.BaseDelay = 5 * time.Minute }},
		{"another growth", p, map[string]string{"basedelay": "10", "multiplier": "3", "backoffstrategy": "linear", "jittertype": "none"}, func(w *Policy) {
			w.BaseDelay, w.Multiplier, w.BackoffStrategy, w.JitterType = 10*time.Millisecond, 3, Linear, NoJitter
		}},
		{"a shorter attempt", p, map[string]string{"attempttimeout": "1s"}, func(w *Policy) { w.AttemptTimeout = time.Second }},
		{"a longer attempt", p, map[string]string{"attempttimeout": "1m"}, func(*Policy) {}},
		{"a limit of time where there is none", p, map[string]string{"maxelapsedtime": "1h"}, func(w *Policy) { w.MaxElapsedTime = time.Hour }},
		{"a longer limit of time", limited, map[string]string{"maxelapsedtime": "1h"}, func(*Policy) {}},
		{"a shorter limit of time", limited, map[string]string{"maxelapsedtime": "1s"}, func(w *Policy) { w.MaxElapsedTime = time.Second }},
		{"no adaptive delays", p, map[string]string{"enableadaptivebackoff": "false", "enableresourceawareretry": "true", "learningwindow": "7"}, func(w *Policy) {
			w.EnableAdaptiveBackoff, w.EnableResourceAwareRetry, w.LearningWindow = false, true, 7
		}},
		{"other factors", p, map[string]string{"successratethreshold": "0.5", "adaptationfactor": "2"}, func(w *Policy) { w.SuccessRateThreshold, w.AdaptationFactor = 0.5, 2 }},
		{"a way past backpressure", p, map[string]string{"respectglobalbackpressure": "false"}, func(w *Policy) { w.RespectGlobalBackpressure = false }},
		{"a breaker of its own", p, map[string]string{"enablecircuitbreaker": "false", "maxconcurrentretries": "1"}, func(*Policy) {}},
		{"no limit of time where there is one", limited, map[string]string{"maxelapsedtime": "0"}, func(*Policy) {}},
	} {
		o, err := ParseOverrides(tc.asked)
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		want := tc.p
		tc.change(&want)
		got := tc.p.Override(o)
		for i := range keys {
			if keys[i].text(got) != keys[i].text(&want) {
				t.Errorf("%s: %s is %s, want %s", tc.name, keys[i].Name, keys[i].text(got), keys[i].text(&want))
			}
		}
	}
}

func TestParseOverrides_ReportsEveryIssue(t *testing.T) {
	_, err := ParseOverrides(map[string]string{"maxattempts": "x", "jittertype": "ful", "basedelay": "1.5", "subject": "y"})
	want := []string{
		`basedelay: "1.5" is no whole number of milliseconds and has no unit; did you mean 1500 or 1.5s?`,
		`jittertype: "ful" is not none, full, equal or decorrelated; did you mean full?`,
		`maxattempts: "x" is no whole number of at least 1`,
	}
	issues := Issues(err)
	if len(issues) != len(want) {
		t.Fatalf("got the issues %v, want %d", err, len(want))
	}
	for i, f := range issues {
		if f.Error() != want[i] {
			t.Errorf("issue %d is %q, want %q", i, f, want[i])
		}
	}
}

func TestOverride_AllowsNoMoreThanThePolicy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyPolicy(t)
		p.MaxAttempts = rapid.IntRange(1, 1000).Draw(t, "maxAttempts")
		values := rapid.SampledFrom([]string{"0", "1", "500", "3s", "8760h", "2147483647", "none", "linear", "1.5"})
		asked := map[string]string{}
		for _, key := range OverridableKeys() {
			name := strings.ToLower(key)
			asked[name] = values.Draw(t, name)
		}
		o, err := ParseOverrides(asked)
		if err != nil {
			for _, f := range Issues(err) {
				delete(asked, f.Key)
			}
			if o, err = ParseOverrides(asked); err != nil {
				t.Fatal(err)
			}
		}
		got := p.Override(o)
		if got.MaxAttempts > p.MaxAttempts || got.MaxDelay > p.MaxDelay || got.BaseDelay > got.MaxDelay || got.AttemptTimeout > p.AttemptTimeout ||
			p.MaxElapsedTime > 0 && (got.MaxElapsedTime == 0 || got.MaxElapsedTime > p.MaxElapsedTime) {
			t.Fatalf("%v makes of\n%+v\nthe wider\n%+v", asked, p, *got)
		}
	})
}

func TestRefuseOverride_SaysWhyNotAndWhatMayBe(t *testing.T) {
	for name, want := range map[string]string{
		"maxAttempts":               "",
		"RESPECTGLOBALBACKPRESSURE": "",
		"circuitBreakerThreshold":   "belongs to the breaker or a limit that all operations of the key share",
		"retrybudgetperminute":      "belongs to the breaker or a limit that all operations of the key share",
		"maxConcurrentRetries":      "belongs to the breaker or a limit that all operations of the key share",
		"priority":                  "is no override but a property of the operation itself",
		"rules":                     "is the policy's alone",
		"noResponders":              "is the policy's alone",
		"maxAtempts":                "is no key of a policy, did you mean maxAttempts",
		"region":                    "is no key of a policy;",
	} {
		err := RefuseOverride(name)
		if want == "" {
			if err != nil {
				t.Errorf("%s is refused: %v", name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s gives %v, want it to say %q", name, err, want)
			continue
		}
		for _, key := range OverridableKeys() {
			if !strings.Contains(err.Error(), key) {
				t.Errorf("%s gives %v, want it to name %s", name, err, key)
			}
		}
	}
}
