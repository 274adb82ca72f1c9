package policy

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rebound-mq/rebound/events"
)

func TestResolve_EachLayerCoversTheOnesBelow(t *testing.T) {
	set := parsed(t, `
default:
  maxAttempts: 2
  accounts:
    a: {maxAttempts: 5, campaigns: {c: {maxAttempts: 11}}}
  campaigns:
    c: {maxAttempts: 8}
    other: {priority: high}
billing:
  maxAttempts: 3
  accounts:
    a: {maxAttempts: 6, campaigns: {c: {maxAttempts: 12}}}
  campaigns:
    c: {maxAttempts: 9}
  operations:
    charge:
      maxAttempts: 4
      accounts:
        a: {maxAttempts: 7, campaigns: {c: {maxAttempts: 13}}}
      campaigns:
        c: {maxAttempts: 10}
`)
	for _, tc := range []struct {
		q    Query
		want int
	}{
		{Query{}, 2},
		{Query{Service: "shipping", Operation: "charge"}, 2},
		{Query{Service: "billing", Operation: "refund"}, 3},
		{Query{Service: "billing", Operation: "charge"}, 4},
		{Query{Service: "billing", Operation: "charge", Account: "unknown", Campaign: "unknown"}, 4},
		{Query{Service: "billing", Operation: "charge", Campaign: "other"}, 4},
		{Query{Service: "shipping", Operation: "charge", Account: "a"}, 5},
		{Query{Service: "billing", Operation: "refund", Account: "a"}, 6},
		{Query{Service: "billing", Operation: "charge", Account: "a"}, 7},
		{Query{Service: "shipping", Operation: "charge", Campaign: "c"}, 8},
		{Query{Service: "billing", Operation: "refund", Campaign: "c"}, 9},
		{Query{Service: "billing", Operation: "charge", Campaign: "c"}, 10},
		{Query{Service: "shipping", Operation: "charge", Account: "a", Campaign: "c"}, 11},
		{Query{Service: "billing", Operation: "refund", Account: "a", Campaign: "c"}, 12},
		{Query{Service: "billing", Operation: "charge", Account: "a", Campaign: "c"}, 13},
	} {
		if got := set.Resolve(tc.q).MaxAttempts; got != tc.want {
			t.Errorf("%+v has %d attempts, want %d", tc.q, got, tc.want)
		}
	}
}

func TestResolve_LaysLayersOverEachOtherKeyByKey(t *testing.T) {
	set := parsed(t, "default: {maxElapsedTime: 1h}\nbilling: {baseDelay: 100, operations: {charge: {maxDelay: 2s}}}\nconnection_pool: {maxAttempts: 9}\n")
	p := set.Resolve(Query{Service: "billing", Operation: "charge"})
	if p.MaxElapsedTime != time.Hour || p.BaseDelay != 100*time.Millisecond || p.MaxDelay != 2*time.Second || p.MaxAttempts != 30 {
		t.Errorf("billing:charge has %s, %s, %s and %d attempts, want 1h from the default, 100ms from the service, 2s of its own and the built-in 30",
			p.MaxElapsedTime, p.BaseDelay, p.MaxDelay, p.MaxAttempts)
	}
	p = set.Resolve(Query{Service: "connection_pool"})
	if p.MaxElapsedTime != time.Hour || p.MaxAttempts != 9 || p.RetryBudgetPerMinute != 200 {
		t.Errorf("connection_pool has %s, %d attempts and a budget of %d, want 1h from the file's default, its 9, and the built-in 200",
			p.MaxElapsedTime, p.MaxAttempts, p.RetryBudgetPerMinute)
	}
}

func TestResolve_DefaultOfAFileLiesUnderServicesThatOnlyTheBuiltInFileNames(t *testing.T) {
	p := parsed(t, "default: {attemptTimeout: 3s, maxAttempts: 9}").Resolve(Query{Service: "session_manager"})
	if p.AttemptTimeout != 3*time.Second || p.MaxAttempts != 3 {
		t.Errorf("session_manager has %s and %d attempts, want 3s from the file's default and its built-in 3", p.AttemptTimeout, p.MaxAttempts)
	}
}

func TestParse_ConfigurationsOfTheOriginalDesignLoadAsTheyStand(t *testing.T) {
	set := parsed(t, `{
  "session_manager": {
    "serviceType": "session_manager", "maxAttempts": 3, "baseDelay": 1000, "maxDelay": 30000, "backoffStrategy": "exponential",
    "jitterType": "full", "enableAdaptiveBackoff": true, "enableCircuitBreaker": true, "circuitBreakerThreshold": 5, "circuitBreakerTimeout": 60000
  },
  "premium_actions": {
    "serviceType": "session_manager", "operationType": "execute_action", "accountId": "premium_account_1",
    "campaignId": "high_priority_campaign", "priority": "HIGH", "maxAttempts": 5, "baseDelay": 1000, "maxDelay": 30000,
    "backoffStrategy": "adaptive", "jitterType": "full", "enableAdaptiveBackoff": true, "successRateThreshold": 0.7,
    "adaptationFactor": 0.5, "learningWindow": 10
  },
  "product_launch": {
    "serviceType": "campaign_orchestrator", "maxAttempts": 3, "baseDelay": 2000, "maxDelay": 60000, "backoffStrategy": "exponential",
    "jitterType": "decorrelated", "enableCircuitBreaker": true, "campaignId": "product_launch_2024", "accountId": "premium_account_1",
    "priority": "critical", "enableAdaptiveBackoff": true, "respectGlobalBackpressure": false
  }
}`)
	p := set.Resolve(Query{Service: "session_manager", Operation: "execute_action", Account: "premium_account_1", Campaign: "high_priority_campaign"})
	if p.MaxAttempts != 5 || p.BackoffStrategy != Adaptive || p.Priority != events.High || p.CircuitBreakerThreshold != 5 {
		t.Errorf("the premium account's campaign has %d attempts, strategy %s, priority %s and threshold %d, want 5, adaptive, high, 5",
			p.MaxAttempts, p.BackoffStrategy, p.Priority, p.CircuitBreakerThreshold)
	}
	if p = set.Resolve(Query{Service: "session_manager", Operation: "execute_action", Account: "premium_account_1"}); p.MaxAttempts != 3 {
		t.Errorf("without the campaign the account has %d attempts, want the service's 3", p.MaxAttempts)
	}
	p = set.Resolve(Query{Service: "campaign_orchestrator", Operation: "execute_action", Account: "premium_account_1", Campaign: "product_launch_2024"})
	if !p.EnableAdaptiveBackoff || p.Priority != events.Critical || p.JitterType != DecorrelatedJitter {
		t.Errorf("the product launch has adaptive %t, priority %s, jitter %s, want true, critical, decorrelated", p.EnableAdaptiveBackoff, p.Priority, p.JitterType)
	}
}

func TestResolve_RulesAreInheritedAndReplacedByName(t *testing.T) {
	set := parsed(t, `
default:
  rules:
    - {name: quota, codes: [QUOTA], class: not_retryable}
    - {name: maintenance, message: maintenance, class: retryable}
session_manager:
  rules:
    - {name: quota, codes: [QUOTA, LIMIT], class: retryable, limit: 2}
  operations:
    create_session:
      rules: [{name: expired session, codes: [SESSION_EXPIRED], class: not_retryable}]
`)
	names := func(q Query) string {
		var list []string
		for _, r := range set.Resolve(q).Rules {
			list = append(list, fmt.Sprintf("%s %s %d", r.Name, r.Class, r.Limit))
		}
		return strings.Join(list, ", ")
	}
	for q, want := range map[Query]string{
		{Service: "billing"}:                                      "quota not_retryable 0, maintenance retryable 0",
		{Service: "session_manager"}:                              "quota retryable 2, expired session retryable 1, expired session retryable 1, maintenance retryable 0",
		{Service: "session_manager", Operation: "create_session"}: "expired session not_retryable 0, quota retryable 2, maintenance retryable 0",
	} {
		if got := names(q); got != want {
			t.Errorf("%s:%s has the rules %s, want %s", q.Service, q.Operation, got, want)
		}
	}
}

func TestResolve_AccountAndCampaignThatDoNotGoTogetherAreCutToMaxDelay(t *testing.T) {
	set := parsed(t, "billing: {accounts: {a: {baseDelay: 10s}}, campaigns: {c: {maxDelay: 2s}}}")
	q := Query{Service: "billing", Account: "a", Campaign: "c"}
	if p := set.Resolve(q); p.BaseDelay != 2*time.Second || p.MaxDelay != 2*time.Second {
		t.Errorf("resolved base delay %s and cap %s, want 2s and 2s", p.BaseDelay, p.MaxDelay)
	}
	for _, v := range set.Explain(q, Overrides{}).Values {
		if v.Key == "baseDelay" && (v.Text != "2s" || v.Note != "cut from 10s to maxDelay" || v.Origin.Layer != "billing.accounts.a") {
			t.Errorf("explained as %+v, want 2s of billing.accounts.a with the note that it was cut from 10s", v)
		}
	}
}

// TestResolve_AgreesWithTheLayers compares precomputed policies with the layers laid
// over each other one by one, for any file.
func TestResolve_AgreesWithTheLayers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SampledFrom([]string{"a", "b", "c"})
		var src strings.Builder
		layer := func(indent string) {
			for _, key := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"maxAttempts", "multiplier", "learningWindow"}), rapid.ID).Draw(t, "keys") {
				fmt.Fprintf(&src, "%s%s: %d\n", indent, key, rapid.IntRange(1, 90).Draw(t, key))
			}
			fmt.Fprintf(&src, "%spriority: %s\n", indent, rapid.SampledFrom(priorityWords()).Draw(t, "priority"))
		}
		matches := func(indent string) {
			for _, word := range []string{wordAccounts, wordCampaigns} {
				if rapid.Bool().Draw(t, word) {
					fmt.Fprintf(&src, "%s%s:\n%s  %s:\n", indent, word, indent, names.Draw(t, "id"))
					layer(indent + "    ")
					if word == wordAccounts && rapid.Bool().Draw(t, "both") {
						fmt.Fprintf(&src, "%s    campaigns:\n%s      %s:\n", indent, indent, names.Draw(t, "id"))
						layer(indent + "        ")
					}
				}
			}
		}
		fmt.Fprintln(&src, "default:")
		layer("  ")
		matches("  ")
		for _, service := range rapid.SliceOfDistinct(names, rapid.ID).Draw(t, "services") {
			fmt.Fprintf(&src, "%s:\n", service)
			layer("  ")
			matches("  ")
			fmt.Fprintf(&src, "  operations:\n    %s:\n", names.Draw(t, "operation"))
			layer("      ")
			matches("      ")
		}
		set, err := Parse("p.yaml", []byte(src.String()))
		if err != nil {
			t.Fatalf("%v\n%s", err, src.String())
		}
		q := Query{Service: names.Draw(t, "s"), Operation: names.Draw(t, "o"), Account: names.Draw(t, "acc"), Campaign: names.Draw(t, "camp")}
		got, want := set.Resolve(q), traced(set.applying(q)).policy
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v resolves to\n%+v, want\n%+v\n%s", q, got, want, src.String())
		}
	})
}

func TestKeys_DescribesEveryField(t *testing.T) {
	list := Keys()
	fields := reflect.TypeFor[Policy]().NumField()
	if len(list) != fields {
		t.Errorf("Keys() has %d keys, want one for each of the %d fields of Policy", len(list), fields)
	}
	for _, k := range list {
		field, ok := reflect.TypeFor[Policy]().FieldByNameFunc(func(n string) bool { return strings.EqualFold(n, k.Name) })
		if !ok || field.Name[1:] != k.Name[1:] || k.Values == "" || k.Meaning == "" {
			t.Errorf("key %+v has no field of its name, no values or no meaning", k)
		}
	}
}

func TestKeys_EachReadsAndAppliesTheFieldOfItsName(t *testing.T) {
	full := Policy{Targets: []string{"x"}, DependsOn: []string{"x"}, Rules: []Rule{{Name: "x"}}, Target: "x"}
	for i := range keys {
		if keys[i].read == nil || i == keyTarget {
			continue
		}
		for _, text := range []string{"9", "true", "linear", "equal", "high", "fail", "publish", "1"} {
			if keys[i].read(&full, text) == nil {
				break
			}
		}
	}
	for i := range keys {
		var got, want Policy
		keySet(1<<i).apply(&got, &full)
		field := strings.ToUpper(keys[i].Name[:1]) + keys[i].Name[1:]
		reflect.ValueOf(&want).Elem().FieldByName(field).Set(reflect.ValueOf(full).FieldByName(field))
		if !reflect.DeepEqual(got, want) || reflect.ValueOf(full).FieldByName(field).IsZero() {
			t.Errorf("applying %s gives %+v, want only %s of %+v", keys[i].Name, got, field, full)
		}
	}
}
