package gate

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rebound-mq/rebound/events"
)

// everyPriority is the set of all lanes.
const everyPriority = Waiting(1<<events.Normal | 1<<events.Critical | 1<<events.High | 1<<events.Low)

// enter lets up to n operations of a priority through at now and returns how many went.
func enter(g *Gate, p events.Priority, n int, now time.Time) (went int) {
	for range n {
		pass, _, ok := g.Enter(Conditions{Priority: p}, now)
		if !ok {
			return went
		}
		pass.Done(Success, time.Millisecond, now)
		went++
	}
	return went
}

func TestReserve_LessUrgentOperationsLeaveTheirPart(t *testing.T) {
	for name, c := range map[string]struct {
		settings Settings
		also     Waiting // what waits beside them
		p        events.Priority
		want     int
	}{
		"low alone goes in full":                  {Settings{PerMinute: 20}, 0, events.Low, 20},
		"low beside critical leaves half":         {Settings{PerMinute: 20}, Waiting(0).With(events.Critical), events.Low, 10},
		"low beside normal leaves half":           {Settings{PerMinute: 20}, Waiting(0).With(events.Normal), events.Low, 10},
		"normal beside critical leaves a quarter": {Settings{PerMinute: 20}, Waiting(0).With(events.Critical), events.Normal, 15},
		"high beside critical leaves a tenth":     {Settings{PerMinute: 20}, Waiting(0).With(events.Critical), events.High, 18},
		"critical leaves one to each other one":   {Settings{PerMinute: 20}, everyPriority, events.Critical, 17},
		"normal beside low leaves it one":         {Settings{PerMinute: 20}, Waiting(0).With(events.Low), events.Normal, 19},
		"of the hour's budget the same is left":   {Settings{PerHour: 100}, Waiting(0).With(events.Critical), events.Low, 50},
		"the tighter of both budgets counts":      {Settings{PerMinute: 20, PerHour: 12}, Waiting(0).With(events.Critical), events.Low, 6},
		"a budget of one has no reserve":          {Settings{PerMinute: 1}, Waiting(0).With(events.Critical), events.Low, 1},
	} {
		g := New(c.settings)
		g.Note(c.also, at(0))
		g.Note(c.also, at(99))
		if got := enter(g, c.p, 100, at(100)); got != c.want {
			t.Errorf("%s: %d of %+v go, want %d", name, got, c.settings, c.want)
		}
	}
}

func TestReserve_OfTwentyCriticalGetTenAlthoughLowComeFirst(t *testing.T) {
	g := New(Settings{PerMinute: 20})
	g.Note(Waiting(0).With(events.Low).With(events.Critical), at(0))
	low, critical := enter(g, events.Low, 20, at(0)), enter(g, events.Critical, 20, at(0))
	if low != 10 || critical != 10 {
		t.Errorf("%d low and %d critical go, want 10 of each", low, critical)
	}
}

func TestReserve_GuaranteedOneGoesBesideIt(t *testing.T) {
	g := New(Settings{PerMinute: 20})
	enter(g, events.Critical, 20, at(0))
	g.Note(Waiting(0).With(events.Low), at(1)) // from now on it is guaranteed one a minute
	if got := enter(g, events.Low, 1, at(60)); got != 0 {
		t.Fatalf("%d low go while the budget is spent, want none", got)
	}
	if got := enter(g, events.Critical, 20, at(62)); got != 19 {
		t.Errorf("%d critical go, want 19 of 20, for one of low has waited for more than a minute", got)
	}
	if got := enter(g, events.Low, 20, at(62)); got != 1 {
		t.Errorf("%d low go, want the one that is guaranteed", got)
	}
}

func TestReserve_IsBorrowedOnceNothingMoreUrgentAskedForAMinute(t *testing.T) {
	g := New(Settings{PerMinute: 20})
	g.Note(Waiting(0).With(events.Critical), at(0))
	if got := enter(g, events.Low, 20, at(50)); got != 10 {
		t.Fatalf("%d low go within the minute, want 10", got)
	}
	_, a, _ := g.Enter(Conditions{Priority: events.Low}, at(50))
	if a.Cause != CauseBudgetPerMinute || !a.Next.Equal(at(60)) {
		t.Errorf("the next is refused by %q until %v, want %q until a minute after the critical one", a.Cause, a.Next, CauseBudgetPerMinute)
	}
	if got := enter(g, events.Low, 20, at(60)); got != 10 {
		t.Errorf("%d low go a minute after the last critical one asked, want the other 10", got)
	}
}

func TestReserve_TellsTheQueueWhomItRefuses(t *testing.T) {
	g := New(Settings{PerMinute: 20})
	g.Note(Waiting(0).With(events.Low).With(events.Critical), at(0))
	if got := g.Reserved(at(0)); got != 0 {
		t.Errorf("of a whole budget %04b are refused, want none", got)
	}
	enter(g, events.Low, 20, at(0))
	if got, want := g.Reserved(at(0)), Waiting(0).With(events.Low); got != want {
		t.Errorf("of half a budget %04b are refused, want %04b", got, want)
	}
	enter(g, events.Critical, 20, at(0))
	if got := g.Reserved(at(1)); !got.Has(events.Low) || got.Has(events.Critical) {
		t.Errorf("of a spent budget %04b are refused, want low but not critical", got)
	}
	if got := New(Settings{MaxConcurrent: 1}).Reserved(at(0)); got != 0 {
		t.Errorf("without a budget %04b are refused, want none", got)
	}
}

// fight is instances that share a budget of 20 a minute through a ledger, as the service does.
type fight struct {
	settings Settings
	ledger   Ledger
	gates    []*Gate
	waiting  [][len(events.Priorities)]int // at each instance, by priority
	went     [len(events.Priorities)]int
}

func newFight(s Settings, waiting ...[len(events.Priorities)]int) *fight {
	f := &fight{settings: s, ledger: NewLedger(), waiting: waiting}
	for _, w := range waiting {
		g := New(s)
		for p, n := range w {
			if n > 0 {
				g.Note(Waiting(0).With(events.Priority(p)), begin)
			}
		}
		f.gates = append(f.gates, g)
	}
	return f
}

// total returns how many went.
func (f *fight) total() int {
	n := 0
	for _, k := range f.went {
		n += k
	}
	return n
}

// renew renews the lease of one instance.
func (f *fight) renew(i int, now time.Time) {
	reserved, n := f.gates[i].Reserved(now), 0
	for p, k := range f.waiting[i] {
		if !reserved.Has(events.Priority(p)) {
			n += k
		}
	}
	renewAs(f.gates[i], &f.ledger, Claim{Instance: fmt.Sprint(i), Waiting: n}, f.settings, heard, now, now)
}

// goOn lets what waits at an instance go, the least urgent first.
func (f *fight) goOn(i int, now time.Time) {
	for _, p := range []events.Priority{events.Low, events.Normal, events.High, events.Critical} {
		n := enter(f.gates[i], p, f.waiting[i][p], now)
		f.waiting[i][p] -= n
		f.went[p] += n
	}
}

func TestReserve_CriticalGetTenOfTwentyOverInstances(t *testing.T) {
	low, critical := [len(events.Priorities)]int{events.Low: 20}, [len(events.Priorities)]int{events.Critical: 20}
	both := [len(events.Priorities)]int{events.Low: 10, events.Critical: 10}
	for name, waiting := range map[string][][len(events.Priorities)]int{
		"low at the first, critical at the second": {low, critical},
		"critical at the first, low at the second": {critical, low},
		"half of both at each":                     {both, both},
		"low at two, critical at the third":        {low, low, critical},
		"a third of both at each":                  {both, both, both},
	} {
		f := newFight(Settings{PerMinute: 20}, waiting...)
		for step := range 100 { // five seconds
			now := at(float64(step) / 20)
			for i := range f.gates {
				f.renew(i, now)
				f.goOn(i, now)
			}
		}
		if all := f.went[events.Low] + f.went[events.Critical]; f.went[events.Critical] < 10 || all > 20 || all < 19 {
			t.Errorf("%s: %d low and %d critical go, want at least 10 critical and 20 in all", name, f.went[events.Low], f.went[events.Critical])
		}
	}
}

func TestReserve_OverInstancesTheUrgentHaveTheirsAndAllGoesInTheEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(4, 40).Draw(t, "budget")
		p := rapid.SampledFrom(events.Priorities[:3]).Draw(t, "the more urgent")
		var waiting [][len(events.Priorities)]int
		all, urgent := 0, 0
		for range rapid.IntRange(1, 4).Draw(t, "instances") {
			var w [len(events.Priorities)]int
			w[p] = rapid.SampledFrom([]int{0, 0, 1, 5, 30}).Draw(t, "urgent")
			w[events.Low] = rapid.SampledFrom([]int{0, 0, 1, 5, 30}).Draw(t, "low")
			urgent += w[p]
			all += w[p] + w[events.Low]
			waiting = append(waiting, w)
		}
		f := newFight(Settings{PerMinute: limit}, waiting...)
		var taken []taking
		round := func(now time.Time) {
			for i := range f.gates {
				before := f.total()
				f.renew(i, now)
				f.goOn(i, now)
				taken = append(taken, taking{now, f.total() - before})
			}
		}
		for step := range 40 { // two seconds
			round(at(float64(step) / 20))
		}
		if got, want := f.went[p], min(urgent, limit/2); got < want {
			t.Fatalf("of a budget of %d %d of priority %s go beside low ones, want %d of %d", limit, got, p, want, urgent)
		}
		for now := at(2); f.total() < all; now = now.Add(LeaseTime / 3) {
			if most := time.Duration(all/limit+3) * 62 * time.Second; now.After(begin.Add(most)) {
				t.Fatalf("of a budget of %d %d of %d went within %v, want all", limit, f.total(), all, most)
			}
			round(now)
		}
		if got := most(taken, time.Minute); got > limit {
			t.Fatalf("%d went within a minute, want at most %d", got, limit)
		}
	})
}

func TestReserve_OverInstancesLowUsesWhatIsNotReserved(t *testing.T) {
	w := [len(events.Priorities)]int{events.Low: 100, events.Critical: 1}
	f := newFight(Settings{PerMinute: 200}, w, w, w)
	for step := range 60 { // three seconds
		for i := range f.gates {
			f.renew(i, at(float64(step)/20))
			f.goOn(i, at(float64(step)/20))
		}
	}
	if low, critical := f.went[events.Low], f.went[events.Critical]; low < 90 || low > 100 || critical != 3 {
		t.Errorf("%d low and %d critical go, want 90 to 100, half of the budget, and all 3", low, critical)
	}
}

func TestReserve_OverInstancesALonePriorityGetsTheWholeBudget(t *testing.T) {
	for _, p := range events.Priorities {
		var w [len(events.Priorities)]int
		w[p] = 30
		f := newFight(Settings{PerMinute: 20}, w, w)
		for step := range 40 { // two seconds
			for i := range f.gates {
				f.renew(i, at(float64(step)/20))
				f.goOn(i, at(float64(step)/20))
			}
		}
		if f.went[p] != 20 {
			t.Errorf("%d of priority %s go in two seconds, want all 20", f.went[p], p)
		}
	}
}

func TestReserve_NoPriorityStarves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 40).Draw(t, "budget")
		g := New(Settings{PerMinute: limit})
		var last [len(events.Priorities)]time.Time
		for p := range last {
			last[p] = at(0)
		}
		waits := rapid.SampledFrom([]Waiting{everyPriority, everyPriority &^ (1 << events.High), 1<<events.Critical | 1<<events.Low}).Draw(t, "waiting")
		for second := range 3600 {
			now := at(float64(second))
			// The most urgent are always faster.
			for _, p := range events.Priorities {
				if !waits.Has(p) {
					continue
				}
				if enter(g, p, limit, now) > 0 {
					last[p] = now
				}
				guaranteed := time.Minute * time.Duration(max(smallBudget, limit)) / time.Duration(limit)
				if got, want := now.Sub(last[p]), guaranteed+3*62*time.Second/time.Duration(min(limit, 3)); got > want {
					t.Fatalf("of a budget of %d none of priority %s goes for %v, want %v at most", limit, p, got, want)
				}
			}
		}
	})
}

func TestReserve_NeverRefusesWhatIsMoreUrgent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Settings{PerMinute: rapid.IntRange(0, 60).Draw(t, "minute"), PerHour: rapid.IntRange(1, 200).Draw(t, "hour")}
		g, now := New(s), begin
		lone := rapid.IntRange(0, 3).Draw(t, "lone") == 0
		p := events.Priorities[rapid.IntRange(0, 3).Draw(t, "priority")]
		var taken []taking
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(5*time.Second)).Draw(t, "pause")))
			if !lone {
				p = events.Priorities[rapid.IntRange(0, 3).Draw(t, "priority")]
			}
			left := s.PerHour - sum(taken, now, 62*time.Minute)
			if s.PerMinute > 0 {
				left = min(left, s.PerMinute-sum(taken, now, 62*time.Second))
			}
			_, a, ok := g.Enter(Conditions{Priority: p}, now)
			if ok {
				taken = append(taken, taking{now, 1})
			}
			switch {
			case lone && left > 0 && !ok:
				t.Fatalf("priority %s is refused by %+v although it is alone and %d are left", p, a, left)
			case p == events.Critical && left > 3 && !ok:
				t.Fatalf("a critical one is refused by %+v although %d are left, more than one for each other priority", a, left)
			case !ok && (a.Next.IsZero() || !a.Next.After(now)):
				t.Fatalf("priority %s is refused by %+v, which does not say until when", p, a)
			}
			compare(t, g, p, now)
		}
		if got := most(taken, time.Minute); s.PerMinute > 0 && got > s.PerMinute {
			t.Fatalf("%d went within a minute, want at most %d", got, s.PerMinute)
		}
		if got := most(taken, time.Hour); got > s.PerHour {
			t.Fatalf("%d went within an hour, want at most %d", got, s.PerHour)
		}
	})
}

// compare checks that everything more urgent than p, had it asked too, could go at least as
// often as p, but for what is guaranteed to others.
func compare(t *rapid.T, g *Gate, p events.Priority, now time.Time) {
	uses := g.uses
	defer func() { g.uses = uses }()
	for _, q := range events.Priorities {
		if q == p {
			return
		}
		g.uses.Asked[q] = now.UnixNano()
		due := false
		for _, b := range g.budgets() {
			due = due || b.limit > 0 && now.UnixNano() >= g.uses.due(p, b.limit, b.span, now.UnixNano())
		}
		urgent, less := g.Ready(Conditions{Priority: q}, now), g.Ready(Conditions{Priority: p}, now)
		if !due && urgent.N+len(events.Priorities)-1 < less.N {
			t.Fatalf("%d of priority %s may go and %d of %s", less.N, p, urgent.N, q)
		}
	}
}

// sum adds up what was taken within a length of time until now.
func sum(taken []taking, now time.Time, length time.Duration) int {
	n := 0
	for _, t := range taken {
		if now.Sub(t.at) < length {
			n += t.n
		}
	}
	return n
}
