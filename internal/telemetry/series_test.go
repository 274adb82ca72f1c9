package telemetry_test

import (
	"sync"
	"testing"

	"github.com/rebound-mq/rebound/internal/telemetry"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestSeries_KeysBeyondTheBoundShareOneValue(t *testing.T) {
	s := telemetry.NewSeries(2, "other", func(k string) *string { return &k })
	for _, step := range []struct{ key, want string }{
		{"a", "a"}, {"b", "b"}, {"c", "other"}, {"a", "a"}, {"other", "other"}, {"d", "other"}, {"b", "b"},
	} {
		if got := *s.Of(step.key); got != step.want {
			t.Errorf("key %s counts as %s, want %s", step.key, got, step.want)
		}
	}
	if s.Of("c") != s.Of("other") {
		t.Error("a key beyond the bound and the other key have two values, want one")
	}
}

func TestSeries_KeyHasOneValueHoweverManyAskAtOnce(t *testing.T) {
	const most, askers = 50, 8
	s := telemetry.NewSeries(most, -1, func(k int) *int { return &k })
	var mu sync.Mutex
	seen := make(map[*int]struct{})
	var asking sync.WaitGroup
	for range askers {
		asking.Go(func() {
			for k := range 2 * most {
				v := s.Of(k)
				mu.Lock()
				seen[v] = struct{}{}
				mu.Unlock()
			}
		})
	}
	asking.Wait()
	if len(seen) != most+1 {
		t.Errorf("%d values were given out for %d keys with a bound of %d, want %d", len(seen), 2*most, most, most+1)
	}
}

func TestSeries_KnownKeyAllocatesNothing(t *testing.T) {
	s := telemetry.NewSeries(1, "other", func(k string) *string { return &k })
	s.Of("a")
	if n := testing.AllocsPerRun(100, func() { s.Of("a"); s.Of("b") }); n != 0 {
		t.Errorf("looking keys up allocates %v times, want 0", n)
	}
}
