package gate

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestLedger_BudgetsHoldThroughALossOfTheStore lets the store lose a ledger, or its
// last writes, again and again, while instances spend a budget. One of the living has
// seen the latest ledger, and all renew as often as in the service.
func TestLedger_BudgetsHoldThroughALossOfTheStore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Settings{PerMinute: rapid.IntRange(1, 60).Draw(t, "minute"), PerHour: rapid.IntRange(0, 100).Draw(t, "hour")}
		all := make([]*instance, rapid.IntRange(1, 4).Draw(t, "instances"))
		for i := range all {
			all[i] = &instance{name: string(rune('a' + i)), gate: New(s)}
		}
		ledger, now := NewLedger(), begin
		var taken []taking
		var before []Ledger // what the store had
		last := 0           // the instance that has seen the latest
		renew := func(i int, how renewal) {
			asked := now
			now = now.Add(time.Duration(rapid.Int64Range(1, int64(20*time.Millisecond)).Draw(t, "store")))
			renewAs(all[i].gate, &ledger, Claim{Instance: all[i].name, Waiting: rapid.IntRange(0, 20).Draw(t, "held")}, s, how, asked, now)
			if how == heard && !now.Before(ledger.Quiet) {
				last = i
			}
			before = append(before, ledger)
		}
		for i := range all {
			renew(i, heard)
		}
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(300*time.Millisecond)).Draw(t, "pause")))
			i := rapid.IntRange(0, len(all)-1).Draw(t, "who")
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0, 1, 2:
				renew(i, rapid.SampledFrom([]renewal{heard, heard, heard, notHeard, notWritten}).Draw(t, "renewal"))
			case 3:
				ledger = NewLedger()
				if rapid.Bool().Draw(t, "only the last writes") {
					// What it has lost does not come back later.
					before = before[:max(1, len(before)+1-rapid.IntRange(1, 3).Draw(t, "writes"))]
					ledger = before[len(before)-1]
				}
				// The one that has seen the latest is the first to notice, or comes
				// while the others hand in what they remember.
				if last == i || ledger.Version > 0 {
					renew(last, heard)
				} else {
					renew(i, heard)
					renew(last, heard)
				}
			default:
				if !all[i].gate.leased(now) {
					continue
				}
				if _, _, ok := all[i].gate.Enter(Conditions{}, now); ok {
					taken = append(taken, taking{now, 1})
				}
			}
		}
		if got := most(taken, time.Minute); got > s.PerMinute {
			t.Fatalf("%d went within a minute, want at most %d", got, s.PerMinute)
		}
		if got := most(taken, time.Hour); s.PerHour > 0 && got > s.PerHour {
			t.Fatalf("%d went within an hour, want at most %d", got, s.PerHour)
		}
	})
}

// spendAll lets each instance spend all that it is given of a budget of 100.
func spendAll(t *testing.T, s Settings, names ...string) (Ledger, []*instance, time.Time) {
	t.Helper()
	ledger, now := NewLedger(), begin
	var all []*instance
	for _, name := range names {
		i := &instance{name: name, gate: New(s)}
		all = append(all, i)
		renewAs(i.gate, &ledger, Claim{Instance: name, Waiting: 1000}, s, heard, now, now)
		for i.enter(now) {
		}
		now = now.Add(10 * time.Millisecond)
	}
	return ledger, all, now
}

func (i *instance) enter(now time.Time) bool {
	pass, _, ok := i.gate.Enter(Conditions{}, now)
	if ok {
		i.passes = append(i.passes, pass)
	}
	return ok
}

func TestLedger_NothingGoesWhileALostOneIsRebuilt(t *testing.T) {
	s := Settings{MaxConcurrent: 4, PerMinute: 100}
	_, all, now := spendAll(t, s, "a", "b")
	inFlight := len(all[0].passes) + len(all[1].passes)
	ledger := NewLedger()
	for step := range 3 {
		for _, i := range all {
			renewAs(i.gate, &ledger, Claim{Instance: i.name, Waiting: 10}, s, heard, now, now)
			if i.enter(now) {
				t.Errorf("in round %d instance %s begins another attempt: what others have in flight is not known yet", step, i.name)
			}
		}
		now = now.Add(500 * time.Millisecond)
	}
	now = now.Add(rebuildTime)
	for range 4 {
		for _, i := range all {
			renewAs(i.gate, &ledger, Claim{Instance: i.name, Waiting: 10}, s, heard, now, now)
			for i.enter(now) {
			}
		}
	}
	if got := len(all[0].passes) + len(all[1].passes); got != s.MaxConcurrent {
		t.Errorf("%d are in flight, want %d; %d were when the ledger got lost", got, s.MaxConcurrent, inFlight)
	}
}

func TestLedger_LostOneIsRebuiltFromWhatIsRemembered(t *testing.T) {
	s := Settings{PerMinute: 100}
	available := func(l Ledger, now time.Time) int {
		n, _ := l.Minute.Available(s.PerMinute, now)
		return n
	}
	for name, c := range map[string]struct {
		after time.Duration // the loss is noticed
		order []string
		want  int // what is left of the budget at the most
	}{
		"all come at once":                          {0, []string{"a", "b", "c"}, 0},
		"the last to have renewed comes last":       {0, []string{"c", "b", "a"}, 0},
		"an instance that knew nothing comes first": {0, []string{"new", "a", "b", "c"}, 0},
		"only one is left":                          {0, []string{"c"}, 0},
		"they come much later":                      {20 * time.Second, []string{"c", "a", "b"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			_, all, now := spendAll(t, s, "a", "b", "c")
			all = append(all, &instance{name: "new", gate: New(s)})
			spent := 0
			for _, i := range all {
				spent += len(i.passes)
			}
			if spent != s.PerMinute {
				t.Fatalf("%d were spent, want all %d", spent, s.PerMinute)
			}
			ledger := NewLedger()
			now = now.Add(c.after)
			taken := 0
			for range 20 {
				for _, name := range c.order {
					i := all[slices.IndexFunc(all, func(i *instance) bool { return i.name == name })]
					renewAs(i.gate, &ledger, Claim{Instance: name, Waiting: 10}, s, heard, now, now)
					if name == "new" {
						continue // it has nothing to do
					}
					for i.enter(now) {
						taken++
					}
					now = now.Add(10 * time.Millisecond)
				}
				now = now.Add(LeaseTime / 3)
			}
			if left := available(ledger, now); taken > c.want {
				t.Errorf("%d more went and %d are left of a budget that was spent, want at most %d", taken, left, c.want)
			}
		})
	}
}
