package policy

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// usual returns the built-in default policy.
func usual() Policy { return Builtin().Resolve(Query{}) }

// parsed returns the policies of a file that has no issues.
func parsed(t testing.TB, src string) *Set {
	t.Helper()
	set, err := Parse("p.yaml", []byte(src))
	if err != nil {
		t.Fatalf("the policy file has issues:\n%v\n%s", err, src)
	}
	return set
}

// fixed returns a source of one number.
func fixed(r float64) func() float64 { return func() float64 { return r } }

// seeded returns a source whose numbers are the same in every run.
func seeded(seed uint64) func() float64 { return rand.New(rand.NewPCG(seed, 0)).Float64 }

// kolmogorovSmirnov returns the greatest distance between the distribution of
// the samples, which it sorts, and cdf.
func kolmogorovSmirnov(samples []float64, cdf func(x float64) float64) float64 {
	slices.Sort(samples)
	n, greatest := float64(len(samples)), 0.0
	for i, x := range samples {
		want := cdf(x)
		greatest = max(greatest, math.Abs(want-float64(i)/n), math.Abs(float64(i+1)/n-want))
	}
	return greatest
}

// uniform returns the distribution function of uniform draws between a and b.
func uniform(a, b float64) func(x float64) float64 {
	return func(x float64) float64 { return min(max((x-a)/(b-a), 0), 1) }
}
