package simulator

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/rebound-mq/rebound/events"
)

func play(t *testing.T, s Scenario, strategy string, seed uint64) Result {
	t.Helper()
	r, err := Run(t.Context(), s, strategy, seed)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRebound_HealedTargetIsNotFelledByItsBacklog(t *testing.T) {
	t.Parallel()
	for _, s := range []Scenario{Backlog(100_000), Shedding(100_000)} {
		r := play(t, s, Rebound, 1)
		t.Log("\n" + table([]Result{r}))
		if r.Succeeded != r.Operations {
			t.Errorf("%s: %d of %d operations succeeded, want all", s.Name, r.Succeeded, r.Operations)
		}
		if r.Backlog < 99_000 {
			t.Errorf("%s: the backlog was %d, want about 100,000", s.Name, r.Backlog)
		}
		if r.PeakLoad > 1.2 {
			t.Errorf("%s: the peak load was %.2f of the capacity, want at most 1.2", s.Name, r.PeakLoad)
		}
		if r.DrainMs > 1.3*r.IdealMs {
			t.Errorf("%s: the backlog drained in %.0f s, want at most 1.3 times the ideal %.0f s", s.Name, r.DrainMs/1000, r.IdealMs/1000)
		}
		if critical, normal := r.Latency["critical"], r.Latency["normal"]; critical.P99Ms > normal.P50Ms {
			t.Errorf("%s: the slowest critical operations took %.0f s, want less than the median of the normal ones, %.0f s", s.Name, critical.P99Ms/1000, normal.P50Ms/1000)
		}
	}
}

func TestRebound_BacklogDrainsWhateverTheSeed(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		for _, s := range []Scenario{Backlog(10_000), Shedding(10_000)} {
			r := play(t, s, Rebound, seed)
			if r.Succeeded != r.Operations || r.PeakLoad > 1.2 || r.DrainMs > 1.3*r.IdealMs+10_000 {
				t.Errorf("%s with seed %d: %d of %d succeeded, peak load %.2f, drained in %.0f s of the ideal %.0f s; want all, at most 1.2, at most 1.3 times and the 10 s that its breaker stays open", s.Name, seed, r.Succeeded, r.Operations, r.PeakLoad, r.DrainMs/1000, r.IdealMs/1000)
			}
		}
	}
}

// small returns the scenarios at a size at which all strategies together take seconds.
func small() []Scenario {
	all := Scenarios()
	for i := range all {
		s := &all[i]
		switch s.Name {
		case "backlog":
			*s = Backlog(5_000)
		case "shedding":
			*s = Shedding(5_000)
		case "long-outage":
			s.Rate, s.Target.Servers = s.Rate/10, s.Target.Servers/5
		case "overload":
			s.Length, s.Patience = time.Minute, time.Minute
		case "poisoned":
			s.Length, s.Patience = time.Minute, time.Minute
		}
		s.Patience = min(s.Patience, 20*time.Minute)
	}
	return all
}

func TestRebound_LosesNothingAndWastesLeast(t *testing.T) {
	t.Parallel()
	for _, s := range small() {
		var results []Result
		for _, strategy := range Strategies() {
			results = append(results, play(t, s, strategy, 1))
		}
		t.Log(s.Name + ": " + s.About + "\n" + table(results))
		ours := results[0]
		if ours.GivenUp > 0 {
			t.Errorf("%s: Rebound gave up %d operations, want none", s.Name, ours.GivenUp)
		}
		if limit := events.InMilliseconds(longestUntried); ours.UntriedMs > limit {
			t.Errorf("%s: a key had due operations and made no attempt for %.0f ms, want at most %.0f", s.Name, ours.UntriedMs, limit)
		}
		for _, other := range results[1:] {
			if other.GivenUp > 0 {
				continue // operations given up waste nothing
			}
			if ours.Wasted >= other.Wasted {
				t.Errorf("%s: Rebound wasted %d attempts and %s %d, want fewer", s.Name, ours.Wasted, other.Strategy, other.Wasted)
			}
			if ours.Goodput < 0.98*other.Goodput {
				t.Errorf("%s: %.1f operations a second succeed with Rebound and %.1f with %s, want no fewer", s.Name, ours.Goodput, other.Goodput, other.Strategy)
			}
			if s.Name == "overload" && ours.Goodput < 2*other.Goodput {
				t.Errorf("%s: %.1f operations a second succeed with Rebound and %.1f with %s, want twice as many: the overload must not feed itself", s.Name, ours.Goodput, other.Goodput, other.Strategy)
			}
		}
	}
}

func TestRebound_ParkedOperationsNeedNotSitOutTheirDelay(t *testing.T) {
	s := Scenarios()[0]
	r := play(t, s, Rebound, 1)
	if r.DrainMs > 1.3*r.IdealMs+10_000 {
		t.Errorf("after a short outage the backlog drained in %.1f s, want at most 1.3 times the ideal %.1f s and the 10 s that the breaker stays open", r.DrainMs/1000, r.IdealMs/1000)
	}
}

func TestRun_IsTheSameEveryTime(t *testing.T) {
	s := Shedding(500)
	for _, strategy := range Strategies() {
		first, again, other := play(t, s, strategy, 7), play(t, s, strategy, 7), play(t, s, strategy, 8)
		if !reflect.DeepEqual(first, again) {
			t.Errorf("%s: two runs with one seed differ:\n%+v\n%+v", strategy, first, again)
		}
		if reflect.DeepEqual(first, other) {
			t.Errorf("%s: runs with two seeds are the same", strategy)
		}
	}
}

func TestRun_StrategyMustBeKnown(t *testing.T) {
	if _, err := Run(t.Context(), Backlog(1), "hope", 1); err == nil || !strings.Contains(err.Error(), `"hope"`) {
		t.Errorf("running an unknown strategy gave the error %v, want one that names it", err)
	}
}

func TestRun_EndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, Backlog(1_000_000), Rebound, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled run gave the error %v, want %v", err, context.Canceled)
	}
}

// table formats results for people.
func table(results []Result) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "STRATEGY\tOPERATIONS\tSUCCEEDED\tGIVEN UP\tLEFT\tGOODPUT\tWASTED\tMOST\tPEAK\tBACKLOG\tDRAIN\tIDEAL\tP50\tP99\tCRITICAL P99\tLOW P99")
	for _, r := range results {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%.1f/s\t%d\t%d\t%.2f\t%d\t%.1f s\t%.1f s\t%.1f s\t%.1f s\t%.1f s\t%.1f s\n",
			r.Strategy, r.Operations, r.Succeeded, r.GivenUp, r.Left, r.Goodput, r.Wasted, r.MostAttempts, r.PeakLoad, r.Backlog, r.DrainMs/1000, r.IdealMs/1000,
			r.Latency["normal"].P50Ms/1000, r.Latency["normal"].P99Ms/1000, r.Latency["critical"].P99Ms/1000, r.Latency["low"].P99Ms/1000)
	}
	w.Flush()
	return b.String()
}
