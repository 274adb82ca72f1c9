package gate

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/rebound-mq/rebound/events"
)

func TestRoundRobin_EveryWaitingLaneHasItsShare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var turns RoundRobin
		var waited, had [len(events.Priorities)]int
		for range rapid.IntRange(1, 500).Draw(t, "turns") {
			if rapid.IntRange(0, 40).Draw(t, "change") == 0 {
				waited, had = [len(events.Priorities)]int{}, [len(events.Priorities)]int{}
			}
			// Low and high always wait; the others come and go.
			w := Waiting(rapid.IntRange(0, 15).Draw(t, "waiting")).With(events.Low).With(events.High)
			p, after, ok := turns.Next(w)
			if !ok || !w.Has(p) {
				t.Fatalf("the turn is %s's of lanes %04b, want one that waits", p, w)
			}
			turns = after
			had[p]++
			for _, q := range []events.Priority{events.Low, events.High} {
				waited[q]++
				if least := float64(waited[q])*float64(shares[q])/100 - 2; float64(had[q]) < least {
					t.Fatalf("%s had %d of %d turns, want at least %.1f", q, had[q], waited[q], least)
				}
			}
		}
	})
}

func TestRoundRobin_FullLanesHaveTheirSharesAndTheHighestTheRest(t *testing.T) {
	all := Waiting(0).With(events.Critical).With(events.High).With(events.Normal).With(events.Low)
	var turns RoundRobin
	var had [len(events.Priorities)]int
	for range 1000 {
		p, after, _ := turns.Next(all)
		turns = after
		had[p]++
	}
	want := [len(events.Priorities)]int{events.Critical: 700, events.High: 150, events.Normal: 100, events.Low: 50}
	for p, n := range had {
		if n < want[p]-2 || n > want[p]+2 {
			t.Errorf("of 1000 turns %s had %d, want about %d", events.Priority(p), n, want[p])
		}
	}
}

func TestRoundRobin_LaneAloneHasEveryTurn(t *testing.T) {
	for _, p := range events.Priorities {
		var turns RoundRobin
		for i := range 100 {
			got, after, ok := turns.Next(Waiting(0).With(p))
			if turns = after; got != p || !ok {
				t.Fatalf("turn %d is %s's, %t, want %s's", i, got, ok, p)
			}
		}
	}
	if _, _, ok := (RoundRobin{}).Next(0); ok {
		t.Error("it is somebody's turn though nobody waits")
	}
}

func TestRoundRobin_SplitGivesTurnsUntilTheLanesAreEmpty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var waiting [len(events.Priorities)]int
		all := 0
		for i := range waiting {
			waiting[i] = rapid.IntRange(0, 50).Draw(t, "waiting")
			all += waiting[i]
		}
		n := rapid.IntRange(0, 300).Draw(t, "n")
		got, _ := RoundRobin{}.Split(waiting, n)
		sum := 0
		for i := range got {
			if got[i] > waiting[i] {
				t.Fatalf("%v of %v were given, more than wait", got, waiting)
			}
			sum += got[i]
		}
		if sum != min(n, all) {
			t.Fatalf("%d turns were given of %d for %d that wait, want %d", sum, n, all, min(n, all))
		}
	})
}
