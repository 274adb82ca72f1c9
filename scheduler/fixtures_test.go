package scheduler

import (
	"testing"
	"time"

	"github.com/rebound-mq/rebound/scheduler/policy"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// usual returns the built-in default policy.
func usual() policy.Policy { return policy.Builtin().Resolve(policy.Query{}) }

// parsed returns the policies of a file that has no issues.
func parsed(t testing.TB, src string) *policy.Set {
	t.Helper()
	set, err := policy.Parse("p.yaml", []byte(src))
	if err != nil {
		t.Fatalf("the policy file has issues:\n%v\n%s", err, src)
	}
	return set
}

// fixed returns a source of one number.
func fixed(r float64) func() float64 { return func() float64 { return r } }
