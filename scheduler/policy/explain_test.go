package policy

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/events"
)

func TestExplain_TellsWhereEveryValueIsFrom(t *testing.T) {
	set := parsed(t, `default:
  attemptTimeout: 3s
connection_pool:
  maxDelay: 20s
  rules: [{name: full, codes: [FULL], class: retryable, limit: once}]
  operations:
    acquire_connection:
      baseDelay: 250
      accounts:
        premium_1:
          priority: high
          campaigns: {launch: {maxAttempts: 8}}
      campaigns:
        launch: {jitterType: none}
`)
	o, err := ParseOverrides(map[string]string{"maxattempts": "3", "maxdelay": "1h", "multiplier": "3"})
	if err != nil {
		t.Fatal(err)
	}
	q := Query{Service: "connection_pool", Operation: "acquire_connection", Account: "premium_1", Campaign: "launch"}
	e := set.Explain(q, o)
	at := func(layer string, line, column int) Origin {
		return Origin{Layer: layer, File: "p.yaml", Line: line, Column: column}
	}
	const operation = "connection_pool.operations.acquire_connection"
	want := map[string]Value{
		"attemptTimeout":       {Text: "3s", Origin: at("default", 2, 3)},
		"maxDelay":             {Text: "20s", Origin: at("connection_pool", 4, 3), Note: "the operation asked for 1h"},
		"baseDelay":            {Text: "250ms", Origin: at(operation, 8, 7)},
		"priority":             {Text: "high", Origin: at(operation+".accounts.premium_1", 11, 11)},
		"jitterType":           {Text: "none", Origin: at(operation+".campaigns.launch", 14, 18)},
		"maxAttempts":          {Text: "3", Origin: Origin{Layer: OverridesLayer}},
		"multiplier":           {Text: "3", Origin: Origin{Layer: OverridesLayer}},
		"retryBudgetPerMinute": {Text: "200", Origin: Origin{Layer: "connection_pool", File: BuiltinFile}, Note: budgetNote},
		"learningWindow":       {Text: "10", Origin: Origin{Layer: "default", File: BuiltinFile}},
		"dependsOn":            {Text: "[]", Origin: Origin{Layer: "default", File: BuiltinFile}},
		"maxElapsedTime":       {Text: "24h", Origin: Origin{Layer: "default", File: BuiltinFile}, Note: "ends what waits in vain"},
		"rules[0]":             {Text: "full: retryable once on FULL", Origin: at("connection_pool", 5, 11)},
	}
	for _, v := range e.Values {
		w, ok := want[v.Key]
		if !ok {
			continue
		}
		if w.Key = v.Key; v != w {
			t.Errorf("%s is explained as %+v, want %+v", v.Key, v, w)
		}
		delete(want, v.Key)
	}
	if len(want) > 0 {
		t.Errorf("not explained: %v", want)
	}
	if len(e.Values) != len(keys) {
		t.Errorf("%d values are explained, want one for each of %d keys", len(e.Values), len(keys))
	}
	if resolved := set.Resolve(q); !reflect.DeepEqual(e.Policy, *resolved.Override(o)) {
		t.Errorf("the policy explained is\n%+v, want the one in force\n%+v", e.Policy, *resolved.Override(o))
	}
	if e.Priority != events.High || len(e.Delays) != 2 {
		t.Errorf("explained for priority %s and %d delays, want high and 2", e.Priority, len(e.Delays))
	}
	// Adaptive, without jitter, for high priority: 250 ms × 3^(n−1) × 0.75.
	if got, want := e.Delays[1].P50, 562500*time.Microsecond; got != want {
		t.Errorf("the delay after attempt 2 is %s, want %s", got, want)
	}
	q.Priority, q.PriorityGiven = events.Normal, true
	if got, want := set.Explain(q, o).Delays[1].P50, 750*time.Millisecond; got != want {
		t.Errorf("for normal priority the delay after attempt 2 is %s, want %s", got, want)
	}
}

func TestExplain_TellsOfABaseThatAnOverrideCuts(t *testing.T) {
	o, err := ParseOverrides(map[string]string{"maxdelay": "100"})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range Builtin().Explain(Query{Service: "billing"}, o).Values {
		if v.Key == "baseDelay" && (v.Text != "100ms" || v.Origin.Layer != OverridesLayer || v.Note != "cut to maxDelay") {
			t.Errorf("baseDelay is explained as %+v, want 100ms of the overrides, cut to maxDelay", v)
		}
	}
}

func TestExplain_IsBoundedForEndlessAttempts(t *testing.T) {
	set := parsed(t, "billing: {maxAttempts: 2147483647, jitterType: decorrelated}")
	if n := len(set.Explain(Query{Service: "billing"}, Overrides{}).Delays); n != MaxExplained {
		t.Errorf("2147483647 attempts are explained by %d delays, want %d", n, MaxExplained)
	}
}

func TestExplanation_IsJSON(t *testing.T) {
	e := parsed(t, "billing: {maxAttempts: 2, jitterType: none}").Explain(Query{Service: "billing", Operation: "charge"}, Overrides{})
	e.Values = e.Values[:1]
	got, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"query":{"service":"billing","operation":"charge"},` +
		`"values":[{"key":"maxAttempts","text":"2","origin":{"layer":"billing","file":"p.yaml","line":1,"column":11}}],` +
		`"priority":"normal","delays":[{"attempt":1,"minMs":1000,"p50Ms":1000,"p90Ms":1000,"p99Ms":1000,"maxMs":1000}]}`
	if string(got) != want {
		t.Errorf("the explanation is\n%s, want\n%s", got, want)
	}
}

func TestDelays_AreThoseOfTheFormula(t *testing.T) {
	const s = time.Second
	ill := Signals{HealthKnown: true} // × 3
	for _, tc := range []struct {
		name    string
		p       Policy
		attempt int
		signals Signals
		want    Delays
	}{
		{"no jitter", Policy{BaseDelay: s, MaxDelay: 10 * s, Multiplier: 2}, 3, Signals{}, Delays{3, 4 * s, 4 * s, 4 * s, 4 * s, 4 * s, false}},
		{"full jitter", Policy{BaseDelay: s, MaxDelay: 10 * s, Multiplier: 2, JitterType: FullJitter}, 4, Signals{}, Delays{4, 0, 4 * s, 7200 * time.Millisecond, 7920 * time.Millisecond, 8 * s, false}},
		{"equal jitter at the cap", Policy{BaseDelay: s, MaxDelay: 10 * s, Multiplier: 2, JitterType: EqualJitter}, 9, Signals{}, Delays{9, 5 * s, 7500 * time.Millisecond, 9500 * time.Millisecond, 9950 * time.Millisecond, 10 * s, false}},
		{"no jitter, a service that is ill", Policy{BaseDelay: s, MaxDelay: 10 * s, Multiplier: 2, BackoffStrategy: Adaptive}, 2, ill, Delays{2, 6 * s, 6 * s, 6 * s, 6 * s, 6 * s, false}},
		{"decorrelated jitter at first", Policy{BaseDelay: s, MaxDelay: 10 * s, JitterType: DecorrelatedJitter}, 1, Signals{}, Delays{1, s, 2 * s, 2800 * time.Millisecond, 2980 * time.Millisecond, 3 * s, false}},
		{"an attempt below the first", Policy{BaseDelay: s, MaxDelay: 10 * s, Multiplier: 2}, -1, Signals{}, Delays{1, s, s, s, s, s, false}},
	} {
		if got := tc.p.Delays(tc.attempt, events.Normal, tc.signals); got != tc.want {
			t.Errorf("%s: got %+v, want %+v", tc.name, got, tc.want)
		}
	}
}

// TestDelays_AreThoseOfDecisions compares explained delays with 20,000 chains of real
// decisions: at each quantile the share of delays up to it must be right.
func TestDelays_AreThoseOfDecisions(t *testing.T) {
	const n = 20_000
	for jitter, runs := range map[Jitter]float64{FullJitter: n, EqualJitter: n, DecorrelatedJitter: simulatedRuns} {
		p := Policy{MaxAttempts: 9, BaseDelay: time.Second, MaxDelay: time.Minute, Multiplier: 2, JitterType: jitter}
		random, samples := seeded(3), make([]time.Duration, n)
		for i := range samples {
			for attempt := 1; attempt <= 4; attempt++ {
				samples[i] = p.Decide(Input{Attempt: attempt, Previous: samples[i], Now: now}, random).Delay
			}
		}
		slices.Sort(samples)
		d := p.Delays(4, events.Normal, Signals{})
		if samples[0] < d.Min || samples[n-1] > d.Max {
			t.Errorf("%s: decisions are between %s and %s, want from %s to %s", jitter, samples[0], samples[n-1], d.Min, d.Max)
		}
		for q, delay := range map[float64]time.Duration{0.5: d.P50, 0.9: d.P90, 0.99: d.P99} {
			i, _ := slices.BinarySearch(samples, delay)
			// Four standard deviations of a share of q.
			if share, tolerance := float64(i)/n, 4*math.Sqrt(q*(1-q)/runs); math.Abs(share-q) > tolerance {
				t.Errorf("%s: %.3f of the decisions are below %s, want %.2f ± %.3f", jitter, share, delay, q, tolerance)
			}
		}
	}
}

func TestDelays_SimulatedOnesAreTheSameAtEveryCall(t *testing.T) {
	p := Policy{BaseDelay: time.Second, MaxDelay: time.Hour, JitterType: DecorrelatedJitter}
	first, second := p.Delays(5, events.Normal, Signals{}), p.Delays(5, events.Normal, Signals{})
	if first != second || !first.Simulated || first.Min != time.Second || first.Max != 243*time.Second {
		t.Errorf("two calls give %+v and %+v, want the same, simulated, from 1s to 243s", first, second)
	}
	if late := p.Delays(math.MaxInt, events.Normal, Signals{}); late.Attempt != math.MaxInt || late.Max != time.Hour {
		t.Errorf("after the largest attempt the delays are %+v, want up to 1h", late)
	}
}

func ExampleSet_Explain() {
	set, err := Parse("policies.yaml", []byte("billing:\n  operations:\n    charge:\n      maxAttempts: 3\n      jitterType: equal\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	e := set.Explain(Query{Service: "billing", Operation: "charge"}, Overrides{})
	for _, v := range e.Values[:3] {
		fmt.Println(v.Key, v.Text, "from", v.Origin)
	}
	for _, d := range e.Delays {
		fmt.Println("after attempt", d.Attempt, "from", d.Min, "to", d.Max, "half of them up to", d.P50)
	}
	// Output:
	// maxAttempts 3 from billing.operations.charge, policies.yaml:4:7
	// baseDelay 1s from default, built-in
	// maxDelay 5m from default, built-in
	// after attempt 1 from 500ms to 1s half of them up to 750ms
	// after attempt 2 from 1s to 2s half of them up to 1.5s
}
