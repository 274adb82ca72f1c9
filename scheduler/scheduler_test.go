package scheduler

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rebound-mq/rebound/events"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestTheBuiltInPoliciesHaveTheValuesOfTheOriginalDesign(t *testing.T) {
	p := Builtin().Resolve(Query{Service: "session_manager", Operation: "create_session"})
	if p.MaxAttempts != 3 || p.BaseDelay != time.Second || p.MaxDelay != 30*time.Second || p.JitterType != FullJitter || !p.EnableCircuitBreaker || p.CircuitBreakerTimeout != time.Minute {
		t.Errorf("session_manager is %+v", p)
	}
	p = Builtin().Resolve(Query{Service: "connection_pool"})
	if p.BackoffStrategy != Adaptive || p.JitterType != EqualJitter || p.MaxConcurrentRetries != 20 || p.RetryBudgetPerMinute != 200 {
		t.Errorf("connection_pool is %+v", p)
	}
	if p = Builtin().Resolve(Query{Service: "campaign_orchestrator"}); p.RespectGlobalBackpressure || p.JitterType != DecorrelatedJitter {
		t.Errorf("campaign_orchestrator is %+v", p)
	}
}

func TestALayerCoversTheOneBelow(t *testing.T) {
	set, err := Parse("p.yaml", []byte("default: {maxAttempts: 7}\nbilling: {baseDelay: 100, operations: {charge: {baseDelay: 2s}}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for q, want := range map[Query]time.Duration{{Service: "billing", Operation: "refund"}: 100 * time.Millisecond, {Service: "billing", Operation: "charge"}: 2 * time.Second} {
		if p := set.Resolve(q); p.BaseDelay != want || p.MaxAttempts != 7 {
			t.Errorf("%+v has base delay %s and %d attempts, want %s and 7", q, p.BaseDelay, p.MaxAttempts, want)
		}
	}
}

func TestFaultsOfAPolicyFileSayWhere(t *testing.T) {
	for src, want := range map[string]string{
		"a: {maxAttemps: 3}":               "p.yaml:1:17: a.maxAttemps: no such key; did you mean maxAttempts?",
		"a:\n  maxAttempts: 0":             `p.yaml:2:16: a.maxAttempts: "0" is no whole number of at least 1`,
		"a: {baseDelay: 2s, maxDelay: 1s}": "p.yaml:1:4: a: baseDelay 2s is longer than maxDelay 1s",
		"a: {jitterType: some}":            `p.yaml:1:17: a.jitterType: "some" is not none, full, equal or decorrelated`,
		"a: {successRateThreshold: NaN}":   `p.yaml:1:27: a.successRateThreshold: "NaN" is no number from 0 to 1`,
		"a: {baseDelay: soon}":             `p.yaml:1:16: a.baseDelay: "soon" is no duration from 0 to a year, such as 1500, 1.5s or 2m`,
		"a.b: {}":                          "the service",
		"- x":                              "p.yaml:1:1: is not a mapping of keys to values",
		"a: {target: $SYS.x}":              "belongs to the server",
		"a: {serviceType: b}":              `"b" differs from the name it stands under`,
		"a: {rules: [{class: retryable}]}": "states neither codes nor message",
		"a: {rules: [{codes: [\"401\"], class: perhaps}]}": `"perhaps" is not retryable or not_retryable`,
		"a: [": "p.yaml: is not valid YAML",
		"a: {enableCircuitBreaker: yes please, multiplier: 0}": `"0" is no number from 1 to 100`,
	} {
		if _, err := Parse("p.yaml", []byte(src)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want it to say %q", src, err, want)
		}
	}
}

func TestFailuresAreClassifiedByCodeAndRule(t *testing.T) {
	p := fallback()
	for code, want := range map[string]Class{
		"503": Retryable, "429": Retryable, "408": Retryable, "404": NotRetryable, "401": NotRetryable, "UNAVAILABLE": Retryable,
		"PERMISSION_DENIED": NotRetryable, "no_responders": Retryable, "RATE_LIMIT_EXCEEDED": Retryable, "": Retryable, "whatever": Retryable,
	} {
		if got, rule := p.Classify("a", Failure{Code: code}, nil); got != want {
			t.Errorf("code %q is %s by %s, want %s", code, got, rule, want)
		}
	}
	p.Rules = []Rule{{Name: "session", Service: "a", Codes: []string{"401"}, Message: "expired", Limit: 1}}
	p.Rules[0].prepare()
	f := Failure{Code: "401", Message: "Session Expired"}
	first := p.Decide(Input{Attempt: 1, Now: now, Service: "a", Failure: f}, rand.Float64)
	second := p.Decide(Input{Attempt: 2, Now: now, Service: "a", Failure: f, Seen: map[string]int{"session": 1}}, rand.Float64)
	if !first.Retry || !first.Limited || first.Rule != "session" || second.Retry || second.Reason != events.ReasonNotRetryable {
		t.Errorf("a rule with limit 1 gave %+v and then %+v", first, second)
	}
}

func TestOverridesAreBoundedByThePolicy(t *testing.T) {
	o, err := ParseOverrides(map[string]string{"maxattempts": "99", "basedelay": "10", "maxdelay": "1000h", "attempttimeout": "1s"})
	if err != nil {
		t.Fatal(err)
	}
	base := fallback()
	p := base.Override(o)
	if p.MaxAttempts != base.MaxAttempts || p.MaxDelay != base.MaxDelay || p.BaseDelay != 10*time.Millisecond || p.AttemptTimeout != time.Second {
		t.Errorf("overridden to %+v", p)
	}
	if _, err := ParseOverrides(map[string]string{"maxattempts": "x", "jittertype": "y"}); len(Faults(err)) != 2 {
		t.Errorf("got %v, want two faults", err)
	}
}

func TestDecideKeepsItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := fallback()
		p.MaxAttempts = math.MaxInt
		p.BaseDelay = time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "base"))
		p.MaxDelay = p.BaseDelay + time.Duration(rapid.Int64Range(0, int64(24*time.Hour)).Draw(t, "more"))
		p.BackoffStrategy = Strategy(rapid.IntRange(0, 3).Draw(t, "strategy"))
		p.JitterType = Jitter(rapid.IntRange(0, 3).Draw(t, "jitter"))
		after := time.Duration(rapid.Int64Range(0, int64(48*time.Hour)).Draw(t, "retryAfter"))
		d := p.Decide(Input{
			Attempt: rapid.IntRange(0, math.MaxInt-1).Draw(t, "attempt"), Now: now, Failure: Failure{RetryAfter: after},
			Previous: time.Duration(rapid.Int64Range(0, int64(24*time.Hour)).Draw(t, "previous")),
			Signals:  Signals{HealthKnown: true, HealthScore: rapid.Float64().Draw(t, "health"), Load: rapid.Float64().Draw(t, "load")},
		}, func() float64 { return rapid.Float64Range(0, 0.9999).Draw(t, "random") })
		if !d.Retry || d.Delay < after || d.Delay > max(p.MaxDelay, after) || d.Delay < 0 {
			t.Fatalf("decided %+v with retry-after %s and cap %s", d, after, p.MaxDelay)
		}
	})
}

func TestAnAttemptThatCannotFinishIsNotMade(t *testing.T) {
	p := fallback()
	p.JitterType = NoJitter
	if d := p.Decide(Input{Attempt: 1, Now: now, Deadline: now.Add(500 * time.Millisecond)}, rand.Float64); d.Reason != events.ReasonDeadline {
		t.Errorf("past its deadline the decision is %+v", d)
	}
	p.MaxElapsedTime = time.Second
	if d := p.Decide(Input{Attempt: 1, Now: now, FirstFailure: now.Add(-time.Second)}, rand.Float64); d.Reason != events.ReasonMaxElapsed {
		t.Errorf("past its time the decision is %+v", d)
	}
	if d := p.Decide(Input{Attempt: 5, Now: now}, rand.Float64); d.Reason != events.ReasonExhausted {
		t.Errorf("after its attempts the decision is %+v", d)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(builtin))
	f.Add([]byte("a: {rules: [{codes: [x], limit: 2}], operations: {b: {maxAttempts: 2}}}"))
	f.Add([]byte("a: &x {b: *x}"))
	f.Fuzz(func(t *testing.T, src []byte) {
		if set, err := Parse("f", src); err == nil && set.Resolve(Query{Service: "a"}).MaxAttempts < 1 {
			t.Fatal("accepted a policy without attempts")
		}
	})
}

func BenchmarkDecide(b *testing.B) {
	p := Builtin().Resolve(Query{Service: "connection_pool"})
	in := Input{Attempt: 3, Now: now, Failure: Failure{Code: "503"}, Signals: Signals{HealthKnown: true, HealthScore: 40, Samples: 9, SuccessRate: .4, CPU: 90, Memory: 85, Pool: 95, Queue: 40, Load: 1.4}}
	b.ReportAllocs()
	for b.Loop() {
		p.Decide(in, rand.Float64)
	}
}
