package scheduler

import (
	"math/rand/v2"
	"testing"
	"time"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// usual returns the built-in default policy.
func usual() Policy { return Builtin().Resolve(Query{}) }

// parsed returns the policies of a file that has no faults.
func parsed(t testing.TB, src string) *Set {
	t.Helper()
	set, err := Parse("p.yaml", []byte(src))
	if err != nil {
		t.Fatalf("the policy file has faults:\n%v\n%s", err, src)
	}
	return set
}

// fixed returns a source of one number.
func fixed(r float64) func() float64 { return func() float64 { return r } }

// seeded returns a source whose numbers are the same in every run.
func seeded(seed uint64) func() float64 { return rand.New(rand.NewPCG(seed, 0)).Float64 }
