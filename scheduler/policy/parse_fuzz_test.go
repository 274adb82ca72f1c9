package policy

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/events"
)

// FuzzParse reads any text as a policy file. Each issue must be one line. A file
// without issues must resolve and decide within its bounds, and must survive a round
// trip through YAML.
func FuzzParse(f *testing.F) {
	f.Add(builtin)
	for _, src := range []string{
		"a: {rules: [{codes: [x], class: retryable, limit: 2}], operations: {b: {maxAttempts: 2}}}",
		"a: &x {b: *x}",
		"default: {accounts: {c: {priority: high, campaigns: {d: {maxDelay: 5s}}}}}\na: {baseDelay: 1500, jitterType: decorrelated}",
		"x: {serviceType: a, operationType: b, accountId: c, campaignId: d, priority: HIGH, enableAdaptiveBackoff: true}",
		"a: {backoffStrategy: linear, baseDelay: 8760h, maxDelay: 8760h, multiplier: 100, jitterType: equal}",
		"a: {dependsOn: [b], targets: [\"a.>\", \"*.b\"], target: \"{service}.x\"}\nb: {dependsOn: [\"a:b\"]}",
		"\ufeffa: {\"maxAttempts\": \"1e9\", <<: {}, ? [x] : y}\n---\n...",
		"a: {accounts: {\"\\u2028\\n: #\": {multiplier: 1.5}}}",
	} {
		f.Add([]byte(src))
	}
	queries := []Query{
		{},
		{Service: "a"},
		{Service: "a", Operation: "b"},
		{Service: "a", Operation: "b", Account: "c", Campaign: "d"},
		{Service: "session_manager", Account: "c"},
		{Service: "campaign_orchestrator", Campaign: "d"},
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		set, err := Parse("p.yaml", src)
		if err != nil {
			for _, issue := range Issues(err) {
				if text := issue.Error(); strings.ContainsAny(text, "\n\r") || !strings.HasPrefix(text, "p.yaml:") || issue.Problem == "" {
					t.Errorf("the issue %q is not one line that tells file and problem", text)
				}
			}
			return
		}
		written, err := set.YAML()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse("again.yaml", written)
		if err != nil {
			t.Fatalf("what YAML wrote has issues: %v\n%s", err, written)
		}
		for _, q := range queries {
			p := set.Resolve(q)
			if q2 := again.Resolve(q); !alike(&p, &q2) {
				t.Errorf("%+v resolves to\n%+v after\n%s\nwant\n%+v", q, q2, written, p)
			}
			decideWithinBounds(t, &p, q)
			set.Explain(q, Overrides{})
		}
	})
}

// alike reports whether two policies have the same values, whatever their origins.
func alike(p, q *Policy) bool {
	for i := range keys {
		if keys[i].text(p) != keys[i].text(q) {
			return false
		}
	}
	for i := range p.Rules {
		if p.Rules[i].String() != q.Rules[i].String() {
			return false
		}
	}
	return true
}

func decideWithinBounds(t *testing.T, p *Policy, q Query) {
	t.Helper()
	for _, attempt := range []int{math.MinInt, 1, 2, 50, math.MaxInt} {
		for _, r := range []float64{0, 0.5, 1} {
			for _, priority := range events.Priorities {
				d := p.Decide(Input{
					Attempt: attempt, Previous: p.MaxDelay / 2, Now: now, Service: q.Service, Priority: priority,
					Failure: Failure{Code: "503", RetryAfter: time.Second},
					Signals: Signals{HealthKnown: true, Samples: 10, ResponseTrend: 3, CPU: 99, Memory: 99, Pool: 99, Queue: 1000, Load: 9},
				}, fixed(r))
				if d.Retry && (d.Delay < time.Second || d.Delay > max(p.MaxDelay, time.Second)) || !d.Retry && d.Reason == "" {
					t.Fatalf("attempt %d of %+v was decided as %+v, want a delay from the Retry-After of 1s to the cap %s", attempt, q, d, p.MaxDelay)
				}
			}
		}
	}
}
