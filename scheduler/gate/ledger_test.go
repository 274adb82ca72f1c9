package gate

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rebound-mq/rebound/events"
)

// instance is one instance that shares a gate through a ledger, as the service does.
type instance struct {
	name   string
	gate   *Gate
	passes []Pass
}

// renewal is how the renewal of a lease ends.
type renewal string

const (
	heard renewal = "heard"
	// notHeard changes the ledger and loses the answer.
	notHeard renewal = "not heard"
	// notWritten leaves the ledger as it is.
	notWritten renewal = "not written"
)

// renewAs renews the lease of a gate as the service does: the store is asked at one
// time and answers at another. c names the instance and what waits there.
func renewAs(g *Gate, l *Ledger, c Claim, s Settings, how renewal, asked, answered time.Time) Lease {
	claim := g.HandIn(asked)
	claim.Instance, claim.Waiting = c.Instance, c.Waiting
	next, lease := l.Renew(claim, s, answered)
	lease.Until, lease.LeftUntil = asked.Add(LeaseTime), asked.Add(time.Minute)
	if how != notWritten {
		*l = next
	}
	if how == heard {
		g.Share(lease)
	}
	return lease
}

func TestLedger_InstancesTogetherStayWithinTheLimits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Settings{
			MaxConcurrent: rapid.IntRange(0, 12).Draw(t, "concurrent"),
			PerMinute:     rapid.IntRange(0, 60).Draw(t, "minute"), PerHour: rapid.IntRange(0, 100).Draw(t, "hour"),
		}
		all := make([]*instance, rapid.IntRange(1, 4).Draw(t, "instances"))
		for i := range all {
			all[i] = &instance{name: string(rune('a' + i)), gate: New(s)}
		}
		ledger, now := NewLedger(), begin
		var taken []taking
		renew := func(i int) {
			held, asked := rapid.IntRange(0, 20).Draw(t, "held"), now
			// The store may be slow while the clock of the instance runs on.
			now = now.Add(time.Duration(rapid.Int64Range(1, int64(50*time.Millisecond)).Draw(t, "store")))
			how := rapid.SampledFrom([]renewal{heard, heard, heard, notHeard, notWritten}).Draw(t, "renewal")
			renewAs(all[i].gate, &ledger, Claim{Instance: all[i].name, Waiting: held}, s, how, asked, now)
		}
		for i := range all {
			renew(i)
		}
		for range rapid.IntRange(1, 150).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(700*time.Millisecond)).Draw(t, "pause")))
			i := rapid.IntRange(0, len(all)-1).Draw(t, "who")
			one := all[i]
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0, 1, 2:
				renew(i)
			case 3, 4, 5, 6, 7:
				// Without a valid lease other bounds apply.
				if !one.gate.leased(now) {
					continue
				}
				c := Conditions{Priority: rapid.SampledFrom(events.Priorities[:]).Draw(t, "priority")}
				if pass, _, ok := one.gate.Enter(c, now); ok {
					one.passes = append(one.passes, pass)
					taken = append(taken, taking{now, 1})
				}
			case 8:
				if len(one.passes) > 0 {
					one.passes[0].Done(Success, time.Millisecond, now)
					one.passes = one.passes[1:]
				}
			case 9:
				// It dies and comes back as another; what it had in flight is gone.
				all[i] = &instance{name: all[i].name + "'", gate: New(s)}
			}
			given := 0
			for _, h := range ledger.Shares {
				if h.Expires.After(now) {
					given += h.Concurrent
				}
			}
			if s.MaxConcurrent > 0 && given > s.MaxConcurrent {
				t.Fatalf("%d may be in flight by the ledger, want at most %d: %+v", given, s.MaxConcurrent, ledger.Shares)
			}
		}
		if got := most(taken, time.Minute); s.PerMinute > 0 && got > s.PerMinute {
			t.Fatalf("%d went within a minute, want at most %d", got, s.PerMinute)
		}
		if got := most(taken, time.Hour); s.PerHour > 0 && got > s.PerHour {
			t.Fatalf("%d went within an hour, want at most %d", got, s.PerHour)
		}
	})
}

func TestLedger_SharesFollowTheDemand(t *testing.T) {
	s := Settings{MaxConcurrent: 20}
	for name, c := range map[string]struct {
		demands, want []int
	}{
		"alone it has everything":                   {[]int{0}, []int{20}},
		"idle instances share evenly":               {[]int{0, 0}, []int{10, 10}},
		"two that want everything share evenly":     {[]int{99, 99}, []int{10, 10}},
		"what one does not want the other has":      {[]int{2, 99}, []int{2, 18}},
		"the least demanding are served first":      {[]int{2, 99, 99}, []int{2, 9, 9}},
		"what nobody wants is divided":              {[]int{4, 4}, []int{10, 10}},
		"more instances than places leave some out": {slices.Repeat([]int{9}, 25), append(slices.Repeat([]int{1}, 20), slices.Repeat([]int{0}, 5)...)},
	} {
		ledger := NewLedger()
		got := make([]int, len(c.demands))
		for range 3 { // it settles within as many renewals
			for i, d := range c.demands {
				var lease Lease
				ledger, lease = ledger.Renew(Claim{Instance: string(rune('a' + i)), Waiting: d}, s, at(0))
				got[i] = lease.Concurrent
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: demands of %v have shares %v, want %v", name, c.demands, got, c.want)
		}
	}
}

func TestLedger_LeaseTakesNoMoreOfABudgetThanIsAmple(t *testing.T) {
	s := Settings{PerHour: 1_000_000}
	var lease Lease
	ledger, now := NewLedger(), begin
	for i, step := range []struct {
		used, held, want int
	}{
		{0, 1, 64},
		{1, 0, 64},
		{64, 0, 8 * 64},
		{8 * 64, 10, 8 * (8*64 + 10)},
		{100, 0, 8 * 100},
		{0, 50, 8 * 50},
		{0, 0, 64},
	} {
		c := Claim{Instance: "a", Waiting: step.held, Heard: lease.Given, Unused: lease.Budget - step.used, Seen: lease.Seen}
		now = now.Add(LeaseTime / 3)
		ledger, lease = ledger.Renew(c, s, now)
		if lease.Budget != step.want || !lease.More {
			t.Fatalf("lease %d is of %d and more is to be had: %t; want %d and more", i, lease.Budget, lease.More, step.want)
		}
		if left, _ := ledger.Hour.Available(s.PerHour, now); lease.Left != left {
			t.Fatalf("lease %d reports %d left, want %d", i, lease.Left, left)
		}
	}
	// It dies. Only its lease is lost.
	_, other := ledger.Renew(Claim{Instance: "b", Waiting: s.PerHour}, s, now.Add(2*graceTime))
	if want := s.PerHour - 1 - 64 - 8*64 - 100 - 64; other.Budget != want || other.More || other.Left != 0 {
		t.Errorf("another instance is given %d of the budget, and there is more: %t; want all %d", other.Budget, other.More, want)
	}
}

// TestLedger_BudgetOfAHotKeyGrowsWithEveryLease makes a key use up each lease at once.
func TestLedger_BudgetOfAHotKeyGrowsWithEveryLease(t *testing.T) {
	s := Settings{PerMinute: 10_000_000}
	g := New(s)
	ledger, now := NewLedger(), begin
	for range 5 {
		now = now.Add(time.Millisecond)
		renewAs(g, &ledger, Claim{Instance: "a"}, s, heard, now, now)
		for {
			pass, _, ok := g.Enter(Conditions{}, now)
			if !ok {
				break
			}
			pass.Done(Success, time.Millisecond, now)
		}
	}
	if own := ledger.Shares[0]; own.Budget < 200_000 {
		t.Errorf("the fifth lease of a key that uses up all has a budget of %d, want 200,000 at least", own.Budget)
	}
}

func TestLedger_DeadInstanceLosesItsShare(t *testing.T) {
	s := Settings{MaxConcurrent: 10}
	ledger, _ := NewLedger().Renew(Claim{Instance: "a", InFlight: 10}, s, at(0))
	ledger, lease := ledger.Renew(Claim{Instance: "b", Waiting: 10}, s, at(0.9))
	if lease.Concurrent != 0 {
		t.Fatalf("beside one that has all 10 in flight another may have %d, want 0", lease.Concurrent)
	}
	_, lease = ledger.Renew(Claim{Instance: "b", Waiting: 10}, s, at(1.0))
	if lease.Concurrent != 10 || lease.Instances != 2 {
		t.Errorf("once that lease is over it may have %d of %d instances, want 10 of 2", lease.Concurrent, lease.Instances)
	}
}

func TestLedger_WithoutItsStoreAnInstanceHasAnEvenShare(t *testing.T) {
	s := Settings{MaxConcurrent: 10, PerMinute: 30}
	g := New(s)
	g.Share(Lease{Concurrent: 10, Budget: 2, Until: at(1), Instances: 5})
	if a := g.Ready(Conditions{}, at(0.5)); a.N != 2 || a.Cause != CauseBudgetShare {
		t.Errorf("with a lease %d may go, limited by %q, want 2 by %q", a.N, a.Cause, CauseBudgetShare)
	}
	if a := g.Ready(Conditions{}, at(2)); a.N != 2 || a.Cause != CauseConcurrency {
		t.Errorf("without the lease %d may go, limited by %q, want a fifth of 10 by %q", a.N, a.Cause, CauseConcurrency)
	}
	g.Set(Settings{PerMinute: 30})
	if a := g.Ready(Conditions{}, at(2)); a.N != 6 || a.Cause != CauseBudgetPerMinute {
		t.Errorf("without the lease %d may go, limited by %q, want a fifth of 30 by %q", a.N, a.Cause, CauseBudgetPerMinute)
	}
}

func TestLedger_SurvivesJSONAndIsNotChangedByRenew(t *testing.T) {
	s := Settings{MaxConcurrent: 10, PerMinute: 30}
	ledger, _ := NewLedger().Renew(Claim{Instance: "a", Waiting: 3}, s, at(0))
	before, err := json.Marshal(ledger)
	if err != nil {
		t.Fatal(err)
	}
	var stored Ledger
	if err := json.Unmarshal(before, &stored); err != nil {
		t.Fatal(err)
	}
	stored.Renew(Claim{Instance: "a", Waiting: 9}, s, at(0.5))
	stored.Renew(Claim{Instance: "b", Waiting: 9}, s, at(0.5))
	if after, err := json.Marshal(stored); err != nil || string(after) != string(before) {
		t.Errorf("the ledger is\n%s\nerror %v, want it unchanged:\n%s", after, err, before)
	}
}

// TestLedger_LosesNoBudgetWithAnAnswer lets renewals fail, before or after the ledger
// changed: the next instance that asks gets what nobody used.
func TestLedger_LosesNoBudgetWithAnAnswer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Settings{PerMinute: rapid.IntRange(1, 1000).Draw(t, "minute")}
		all := make([]*Gate, rapid.IntRange(1, 4).Draw(t, "instances"))
		for i := range all {
			all[i] = New(s)
		}
		ledger, now, taken := NewLedger(), begin, 0
		renew := func(i int, how renewal) Lease {
			held := rapid.IntRange(0, 300).Draw(t, "held")
			return renewAs(all[i], &ledger, Claim{Instance: string(rune('a' + i)), Waiting: held}, s, how, now, now)
		}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			// All pauses together are too short for an instance to be forgotten.
			now = now.Add(time.Duration(rapid.Int64Range(1, int64(graceTime/30)).Draw(t, "pause")))
			i := rapid.IntRange(0, len(all)-1).Draw(t, "who")
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				all[i].Share(Lease{Instances: len(all)})
			case 1:
				for range rapid.IntRange(0, 100).Draw(t, "attempts") {
					if _, _, ok := all[i].Enter(Conditions{}, now); ok {
						taken++
					}
				}
			default:
				renew(i, rapid.SampledFrom([]renewal{heard, notHeard, notWritten}).Draw(t, "renewal"))
			}
		}
		given := 0
		now = now.Add(1)
		for i := range all {
			given += renew(i, heard).Budget
		}
		if left, _ := ledger.Minute.Available(s.PerMinute, now); taken+given+left < s.PerMinute {
			t.Fatalf("%d were let through, the instances may let through %d and %d are left, together less than the budget of %d", taken, given, left, s.PerMinute)
		}
	})
}

// TestLedger_InstancesWithoutTheirStoreDivideWhatWasLeft lets every instance go on alone,
// and then renew.
func TestLedger_InstancesWithoutTheirStoreDivideWhatWasLeft(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Settings{PerMinute: rapid.IntRange(1, 200).Draw(t, "minute")}
		all := make([]*Gate, rapid.IntRange(2, 5).Draw(t, "instances"))
		ledger, now, taken := NewLedger(), begin, 0
		take := func(g *Gate, n int) {
			for range n {
				if _, _, ok := g.Enter(Conditions{}, now); ok {
					taken++
				}
			}
		}
		renew := func(i int) {
			renewAs(all[i], &ledger, Claim{Instance: string(rune('a' + i)), Waiting: 10}, s, heard, now, now)
		}
		for i := range all {
			all[i] = New(s)
			renew(i)
		}
		for i, g := range all {
			take(g, rapid.IntRange(0, 100).Draw(t, "with a lease"))
			renew(i)
		}
		now = now.Add(2 * LeaseTime)
		for _, g := range all {
			g.Share(Lease{Instances: len(all)})
			take(g, rapid.IntRange(0, 100).Draw(t, "without one"))
		}
		now = now.Add(LeaseTime)
		for i, g := range all {
			renew(i)
			take(g, rapid.IntRange(0, 100).Draw(t, "with a lease again"))
		}
		if most := s.PerMinute + s.PerMinute/len(all) + len(all); taken > most {
			t.Fatalf("%d were let through, want at most %d and a share of one of %d instances", taken, s.PerMinute, len(all))
		}
	})
}

// TestGate_LeaseIsOverByEitherClock lets the machine sleep, which stops the monotonic
// clock, and sets its wall clock back.
func TestGate_LeaseIsOverByEitherClock(t *testing.T) {
	now := time.Now()
	wallOnly := now.Round(0)
	g := New(Settings{MaxConcurrent: 5})
	g.Share(Lease{Concurrent: 5, Until: now.Add(LeaseTime), Instances: 3, Granted: true})
	if _, a, ok := g.Enter(Conditions{}, now); !ok {
		t.Fatalf("with a lease none may go: %+v", a)
	}
	if g.Lapsed(now.Add(LeaseTime / 2)) {
		t.Error("the lease is over in the middle of its time")
	}
	for name, at := range map[string]time.Time{
		"the machine was busy": now.Add(LeaseTime),
		"the machine slept":    wallOnly.Add(time.Hour),
	} {
		if !g.Lapsed(at) {
			t.Errorf("%s: the lease still holds", name)
		}
	}
	if a := g.Ready(Conditions{}, wallOnly.Add(time.Hour)); a.N != 0 {
		t.Errorf("without its lease %d may go beside the one in flight, want none of a share of 5 between 3", a.N)
	}
}

func TestGate_KnowsWhetherOthersMayGiveBackSomeOfTheBudget(t *testing.T) {
	s := Settings{PerMinute: 10}
	ledger := NewLedger()
	now := at(0)
	renew := func(g *Gate, c Claim) {
		t.Helper()
		now = now.Add(10 * time.Millisecond)
		own := g.HandIn(now)
		own.Instance, own.Waiting, own.Leaving = c.Instance, c.Waiting, c.Leaving
		var lease Lease
		ledger, lease = ledger.Renew(own, s, now)
		lease.Until = at(10)
		g.Share(lease)
	}
	a, b := New(s), New(s)
	renew(a, Claim{Instance: "a", Waiting: 1})
	if a.Lent() {
		t.Error("the only instance counts on others")
	}
	renew(b, Claim{Instance: "b", Waiting: 1})
	if _, answer, ok := b.Enter(Conditions{}, now); ok || answer.Cause != CauseBudgetShare || !b.Lent() {
		t.Errorf("the second instance gets %+v and may count on the first: %t, want it to wait for what the first has", answer, b.Lent())
	}
	renew(a, Claim{Instance: "a", Leaving: true})
	renew(b, Claim{Instance: "b", Waiting: 1})
	if _, _, ok := b.Enter(Conditions{}, now); !ok || b.Lent() {
		t.Errorf("after the first gave it back the second may go: %t, and counts on others: %t", ok, b.Lent())
	}
}
