package policy

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// thousandPolicies returns a file with 100 services of 10 operation types each,
// and matches at every place.
func thousandPolicies() string {
	var b strings.Builder
	b.WriteString("default:\n  accounts: {premium: {priority: high}}\n  campaigns: {launch: {maxElapsedTime: 1h}}\n")
	for s := range 100 {
		fmt.Fprintf(&b, "service_%d:\n  maxAttempts: %d\n  accounts: {premium: {maxAttempts: 9}, user_%d: {maxAttempts: 2}}\n  campaigns: {launch: {maxDelay: 2m}}\n  operations:\n", s, s+1, s)
		for o := range 10 {
			fmt.Fprintf(&b, "    operation_%d:\n      baseDelay: %d\n      accounts: {premium: {multiplier: 3, campaigns: {launch: {attemptTimeout: 3s}}}}\n      campaigns: {launch: {jitterType: equal}}\n", o, 100+o)
		}
	}
	return b.String()
}

func BenchmarkResolve(b *testing.B) {
	set := parsed(b, thousandPolicies())
	for _, bc := range []struct {
		name string
		q    Query
	}{
		{"default", Query{Service: "unknown_service", Operation: "unknown_operation"}},
		{"operation", Query{Service: "service_57", Operation: "operation_3"}},
		{"operation of an unknown account", Query{Service: "service_57", Operation: "operation_3", Account: "somebody_4711", Campaign: "none"}},
		{"account", Query{Service: "service_57", Operation: "operation_3", Account: "premium"}},
		{"account and campaign, seven matches", Query{Service: "service_57", Operation: "operation_3", Account: "premium", Campaign: "launch"}},
	} {
		b.Run(strings.NewReplacer(" ", "-", ",", "").Replace(bc.name), func(b *testing.B) {
			b.ReportAllocs()
			var attempts int
			for b.Loop() {
				p := set.Find(bc.q)
				attempts += p.MaxAttempts
			}
			if attempts == 0 {
				b.Fatal("no policy allows an attempt")
			}
		})
	}
}

func TestResolve_AllocatesNothing(t *testing.T) {
	set := parsed(t, thousandPolicies())
	q := Query{Service: "service_57", Operation: "operation_3", Account: "premium", Campaign: "launch"}
	if n := len(set.applying(q)); n != 10 {
		t.Errorf("%d layers apply, want 10", n)
	}
	if allocs := testing.AllocsPerRun(100, func() {
		if p := set.Resolve(q); p.MaxAttempts != 9 {
			t.Errorf("resolved %d attempts, want 9", p.MaxAttempts)
		}
	}); allocs != 0 {
		t.Errorf("resolving allocates %v times, want 0", allocs)
	}
}

func TestFind_IsWhatResolveReturnsAndAllocatesNothing(t *testing.T) {
	set := parsed(t, thousandPolicies())
	for _, account := range []string{"", "premium", "user_57", "somebody"} {
		for _, campaign := range []string{"", "launch", "none"} {
			for _, q := range []Query{
				{Service: "service_57", Operation: "operation_3"}, {Service: "service_57", Operation: "unknown"}, {Service: "unknown", Operation: "unknown"},
			} {
				q.Account, q.Campaign = account, campaign
				found := set.Find(q)
				if want := set.Resolve(q); !reflect.DeepEqual(*found, want) {
					t.Errorf("%+v has the policy\n%+v, resolved is\n%+v", q, found, want)
				}
				if allocs := testing.AllocsPerRun(10, func() {
					if set.Find(q) != found {
						t.Errorf("%+v is found in another place", q)
					}
				}); allocs != 0 {
					t.Errorf("finding the policy of %+v allocates %v times, want 0", q, allocs)
				}
			}
		}
	}
}

func TestResolve_PolicyIsTheCallersOwn(t *testing.T) {
	set := parsed(t, thousandPolicies())
	for _, q := range []Query{{Service: "service_57", Operation: "operation_3"}, {Service: "service_57", Account: "premium"}} {
		before := *set.Find(q)
		mine := set.Resolve(q)
		mine.MaxAttempts += 7
		if after := set.Find(q); !reflect.DeepEqual(*after, before) {
			t.Errorf("a change of what was resolved for %+v changed the policy that all share", q)
		}
	}
}
