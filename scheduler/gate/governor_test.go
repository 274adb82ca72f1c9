package gate

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// plant is a target under a governor: it answers after a time and fails requests
// beyond its capacity.
type plant struct {
	governor Governor
	now      time.Time
	pending  []reply // in the order of their times
	inFlight int
	sent     []taking
	random   *rand.Rand

	response time.Duration
	capacity float64 // requests a second; 0 means unlimited
	failing  float64 // share of requests that fail at random
	stalled  float64 // share of requests that are answered after stall, at random
	stall    time.Duration
	next     time.Time
}

type reply struct {
	at     time.Time
	epoch  uint32
	result Result
	took   time.Duration
}

func newPlant(response time.Duration, capacity float64) *plant {
	return &plant{now: begin, response: response, capacity: capacity, random: rand.New(rand.NewPCG(1, 1))}
}

// run keeps the target busy for a while with want requests a second; 0 means that
// there is always one more. It returns how many succeeded.
func (p *plant) run(d time.Duration, want float64) (succeeded int) {
	const tick = time.Millisecond
	due := 0.0
	for end := p.now.Add(d); p.now.Before(end); p.now = p.now.Add(tick) {
		for len(p.pending) > 0 && !p.pending[0].at.After(p.now) {
			r := p.pending[0]
			p.pending = p.pending[1:]
			p.inFlight--
			p.governor.Done(r.epoch, r.result, r.took, p.now)
			if r.result == Success {
				succeeded++
			}
		}
		due += want * tick.Seconds()
		for want == 0 || due >= 1 {
			n, _, limited := p.governor.Available(p.inFlight, p.now)
			if limited && n == 0 {
				due = math.Min(due, 1)
				break
			}
			due--
			p.send()
			if want == 0 && p.inFlight > 10_000 {
				break
			}
		}
	}
	return succeeded
}

func (p *plant) send() {
	epoch := p.governor.Take(p.now)
	p.inFlight++
	p.sent = append(p.sent, taking{p.now, 1})
	r := reply{p.now.Add(p.response), epoch, Success, p.response}
	if p.random.Float64() < p.failing {
		r.result = Failure
	}
	if p.capacity > 0 {
		interval := time.Duration(float64(time.Second) / p.capacity)
		switch {
		case p.next.Sub(p.now) > 10*interval:
			r.result = Failure
		case p.next.Before(p.now):
			p.next = p.now.Add(interval)
		default:
			p.next = p.next.Add(interval)
		}
	}
	if p.stalled > 0 && p.random.Float64() < p.stalled {
		r.at, r.took = p.now.Add(p.stall), p.stall
	}
	p.pending = append(p.pending, r)
	slices.SortStableFunc(p.pending, func(a, b reply) int { return a.at.Compare(b.at) })
}

func TestGovernor_DoublesTheRateWithEachRoundAfterAnOutage(t *testing.T) {
	p := newPlant(50*time.Millisecond, 0)
	p.governor.Recover(p.now)
	p.run(100*time.Millisecond, 0)
	// A round is 200 ms, and the growth goes on with every success.
	for range 6 {
		before := p.governor.Rate()
		p.run(200*time.Millisecond, 0)
		if growth := p.governor.Rate() / before; growth < 1.4 || growth > 2.1 {
			t.Errorf("in a round the rate grew %.2f times to %.1f, want about 2 times", growth, p.governor.Rate())
		}
	}
}

func TestGovernor_EndsSlowStartAtTheFirstFailure(t *testing.T) {
	var g Governor
	g.Recover(at(0))
	for i := range 15 {
		g.Done(g.Take(at(float64(i)/100)), Success, 20*time.Millisecond, at(float64(i)/100+0.02))
	}
	before := g.Rate()
	g.Done(g.Take(at(0.19)), Failure, time.Millisecond, at(0.191))
	if got, want := g.Rate(), slowStartCut*before; math.Abs(got-want) > 0.01 || g.phase != additive {
		t.Errorf("after a failure the rate is %.1f in phase %d, want %.1f in phase %d", got, g.phase, want, additive)
	}
}

func TestGovernor_TakesAShortPauseOfTheTargetForNoCongestion(t *testing.T) {
	p := newPlant(10*time.Millisecond, 0)
	p.governor.Recover(p.now)
	p.run(time.Second, 0)
	before := p.governor.Rate()
	p.response = 100 * time.Millisecond
	p.run(100*time.Millisecond, 0)
	p.response = 10 * time.Millisecond
	p.run(400*time.Millisecond, 0)
	if got := p.governor.Rate(); got < before {
		t.Errorf("by a pause of 100 ms the rate went from %.1f to %.1f, want it no lower", before, got)
	}
}

func TestGovernor_TakesASlowAnswerForCongestion(t *testing.T) {
	p := newPlant(20*time.Millisecond, 0)
	p.governor.Recover(p.now)
	p.run(time.Second, 0)
	before := p.governor.Rate()
	p.response = 100 * time.Millisecond
	p.run(time.Second, 0)
	if got := p.governor.Rate(); got >= before {
		t.Errorf("while answers take 5 times as long the rate went from %.1f to %.1f, want it lower", before, got)
	}
}

func TestGovernor_CutsOnceForWhatWasOnItsWay(t *testing.T) {
	var g Governor
	g.Recover(at(0))
	var epochs []uint32
	for range 50 {
		epochs = append(epochs, g.Take(at(0)))
	}
	before := g.Rate()
	for _, e := range epochs {
		g.Done(e, Failure, time.Millisecond, at(0.6))
	}
	if got := g.Rate(); got != slowStartCut*before {
		t.Errorf("after 50 failures at once the rate is %.2f, want one cut, %.2f", got, slowStartCut*before)
	}
}

func TestGovernor_SettlesAtTheCapacity(t *testing.T) {
	for name, c := range map[string]struct {
		response time.Duration
		capacity float64
		failing  float64 // at random, whatever the load
		use      float64 // the share of the possible successes that is required
	}{
		"of a quick target":                   {2 * time.Millisecond, 500, 0, 0.85},
		"of a slow target":                    {time.Second, 500, 0, 0.85},
		"of a target with little capacity":    {20 * time.Millisecond, 5, 0, 0.85},
		"of a target with much capacity":      {20 * time.Millisecond, 5000, 0, 0.85},
		"of a target that fails now and then": {20 * time.Millisecond, 500, 0.02, 0.85},
		// Failures by chance and by load are hard to tell apart here. The rate must not
		// dwindle.
		"of a target that often fails": {20 * time.Millisecond, 500, 0.3, 0.25},
	} {
		p := newPlant(c.response, c.capacity)
		p.failing = c.failing
		p.governor.Recover(p.now)
		p.run(time.Minute, 0)
		got := float64(p.run(time.Minute, 0)) / 60
		if want := c.use * c.capacity * (1 - c.failing); got < want {
			t.Errorf("%s: %.1f succeed a second, want at least %.1f", name, got, want)
		}
		from := len(p.sent)
		p.run(time.Minute, 0)
		if load := float64(most(p.sent[from:], time.Second)); load > 1.2*c.capacity+10 {
			t.Errorf("%s: %.0f go in a second, want at most 1.2 times %.0f and a burst of 10", name, load, c.capacity)
		}
	}
}

func TestGovernor_NeverTakesThrottlingForTheBaseline(t *testing.T) {
	var g Governor
	g.Recover(at(0))
	for i := range 100 {
		g.Done(g.Take(at(float64(i))), Throttled, time.Millisecond, at(float64(i)))
	}
	if g.Rate() > 1.1*leastRate {
		t.Errorf("at a target that throttles everything the rate is %.1f, want about the least, %.1f", g.Rate(), leastRate)
	}
}

func TestGovernor_LimitsNothingInSteadyHealth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPlant(time.Duration(rapid.Int64Range(1, 100).Draw(t, "response"))*time.Millisecond, 0)
		p.random = rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		p.failing = rapid.Float64Range(0, 0.02).Draw(t, "failing")
		p.run(10*time.Second, rapid.Float64Range(1, 500).Draw(t, "rate"))
		if p.governor.On() {
			t.Fatalf("the governor is on, with a limit of %.1f a second, want it off", p.governor.Rate())
		}
	})
}

func TestGovernor_ComesOnWithoutABreakerWhenTheTargetIsOverloaded(t *testing.T) {
	p := newPlant(20*time.Millisecond, 0)
	p.run(10*time.Second, 1000)
	p.capacity = 500
	p.run(10*time.Second, 1000)
	if got := p.governor.Rate(); !p.governor.On() || got > 650 {
		t.Errorf("at half the capacity that is needed the governor is on: %t, at %.0f a second, want about 500", p.governor.On(), got)
	}
	slow := newPlant(20*time.Millisecond, 0)
	slow.run(10*time.Second, 1000)
	slow.response = 100 * time.Millisecond
	slow.run(3*time.Second, 1000)
	if !slow.governor.On() {
		t.Error("when answers take 5 times as long the governor is off, want it on")
	}
}

func TestGovernor_UsesATargetAgainThatHasBecomeSlow(t *testing.T) {
	p := newPlant(20*time.Millisecond, 0)
	p.run(10*time.Second, 200)
	p.response = 200 * time.Millisecond
	p.run(10*time.Minute, 200)
	if got := float64(p.run(10*time.Second, 200)) / 10; got < 190 {
		t.Errorf("ten minutes after it became slow for good %.0f a second go to the target, want all 200", got)
	}
}

func TestGovernor_FailuresByChanceDoNotHoldABacklogUp(t *testing.T) {
	for _, response := range []time.Duration{3 * time.Millisecond, 20 * time.Millisecond} {
		for seed := range uint64(20) {
			p := newPlant(response, 2000)
			p.random, p.failing = rand.New(rand.NewPCG(seed, 1)), 0.04
			p.governor.Recover(p.now)
			succeeded := 0
			for succeeded < 3000 && p.now.Sub(begin) < time.Minute {
				succeeded += p.run(100*time.Millisecond, 0)
			}
			if took := p.now.Sub(begin); took > 40*time.Second {
				t.Errorf("with seed %d, answers in %v and 4 %% that fail by chance a backlog took %v and %d went, want all 3000 within 40 s", seed, response, took, succeeded)
			}
		}
	}
}

func TestGovernor_StallsAndFailuresByChanceDoNotHoldABacklogUp(t *testing.T) {
	for _, c := range []struct {
		failing, stalled float64
		unknown          bool // nothing is known of its health before
		within           time.Duration
	}{
		{failing: 0, stalled: 0.15, within: 40 * time.Second},
		{failing: 0.04, stalled: 0.15, within: time.Minute},
		{failing: 0.1, stalled: 0, within: time.Minute},
		{failing: 0.3, stalled: 0, within: 2 * time.Minute},
		{failing: 0.3, stalled: 0, unknown: true, within: 3 * time.Minute},
	} {
		for seed := range uint64(20) {
			p := newPlant(3*time.Millisecond, 2000)
			p.random = rand.New(rand.NewPCG(seed, 1))
			p.failing, p.stalled, p.stall = c.failing, c.stalled, 200*time.Millisecond
			if !c.unknown {
				p.run(5*time.Second, 50)
			}
			p.governor.Recover(p.now)
			recovered, succeeded := p.now, 0
			for succeeded < 3000 && p.now.Sub(recovered) < c.within {
				succeeded += p.run(100*time.Millisecond, 0)
			}
			if succeeded < 3000 {
				t.Errorf("with seed %d, %.0f %% that fail and %.0f %% that stall by chance %d of a backlog of 3000 went within %v, want all", seed, 100*c.failing, 100*c.stalled, succeeded, c.within)
			}
		}
	}
}

func TestGovernor_SlownessThatDoesNotDependOnTheRateIsSoonUsual(t *testing.T) {
	p := newPlant(time.Millisecond, 0)
	p.governor.Recover(p.now)
	p.run(2*time.Second, 100)
	p.response = 80 * time.Millisecond
	if got := p.run(time.Minute, 100); got < 2000 {
		t.Errorf("in the minute after it became slow %d operations went to the target, want at least 2000 of 6000", got)
	}
}

func TestGovernor_GoesOffWhenNothingGoesForAMinute(t *testing.T) {
	var g Governor
	g.Recover(at(0))
	g.Done(g.Take(at(1)), Failure, time.Millisecond, at(1))
	if _, _, limited := g.Available(0, at(60)); !limited {
		t.Error("less than a minute after the last operation the governor is off, want it on")
	}
	if _, _, limited := g.Available(1, at(62)); !limited {
		t.Error("with an operation in flight the governor is off, want it on")
	}
	if _, _, limited := g.Available(0, at(62)); limited || g.On() {
		t.Error("a minute after the last operation the governor is on, want it off")
	}
}

func TestGovernor_ForgetsFailuresWhileNothingGoes(t *testing.T) {
	// After a cut further failures stand in the round, because the next cut must wait.
	var g Governor
	g.Recover(at(0))
	for i := range 5 {
		now := at(1 + float64(i)/10)
		g.Done(g.Take(now), Failure, time.Millisecond, now)
	}
	if ok, _ := g.Early(0, 0, at(2.5)); ok {
		t.Error("with fresh failures parked operations are released early, want none")
	}
	if ok, _ := g.Early(0, 1, at(5)); ok {
		t.Error("with failures and an operation in flight parked operations are released early, want none until it ends")
	}
	if ok, _ := g.Early(0, 0, at(5)); !ok {
		t.Error("4 s after the last operation early release still waits for its failures to be forgotten, want it to go on")
	}
}

func TestGovernor_OfAnIdleKeyGoesOffWhateverAsks(t *testing.T) {
	for name, ask := range map[string]func(g *Governor){
		"early release":       func(g *Governor) { g.Early(0, 0, at(61)) },
		"what may be dropped": func(g *Governor) { g.Idle(0, at(61)) },
		"a late result":       func(g *Governor) { g.Done(g.epoch, Ignored, 0, at(61)); g.Available(0, at(61)) },
	} {
		var g Governor
		g.Recover(at(0))
		g.baselineLatency = float64(10 * time.Second) // so that rounds are long
		if ask(&g); g.On() {
			t.Errorf("asked for %s a minute after the breaker closed the governor is on, want it off", name)
		}
	}
}

func TestGovernor_EarlyReleaseOutlivesAClockThatIsSetBack(t *testing.T) {
	var g Governor
	g.Recover(at(3600))
	g.Done(g.Take(at(3600)), Failure, time.Millisecond, at(3601))
	if ok, _ := g.Early(0, 0, at(0)); ok {
		t.Error("right after a cut parked operations are released early, want a second of calm first")
	}
	if ok, _ := g.Early(0, 0, at(2)); !ok {
		t.Error("2 s after the clock was set back an hour early release waits for it, want it to go on")
	}
}

func TestGovernor_DeliversWithinASecondWhatWaitedForATargetThatWasAway(t *testing.T) {
	p := newPlant(20*time.Millisecond, 0)
	p.governor.Return(p.now)
	if got := p.run(time.Second, 0); got < 400 || got > 1200 {
		t.Errorf("in the first second after its return %d operations went to the target, want from 400 to 1200", got)
	}
}

func TestGovernor_GoesOffWhenItsRateIsNotNeeded(t *testing.T) {
	p := newPlant(20*time.Millisecond, 0)
	p.governor.Recover(p.now)
	p.run(5*time.Second, 50)
	if !p.governor.On() {
		t.Fatal("five seconds after the outage the governor is off, want it on")
	}
	p.run(15*time.Second, 50)
	if p.governor.On() {
		t.Error("15 seconds later the governor is on, want it off")
	}
}

func TestGovernor_StaysOnWhileABacklogIsLetOutMoreSlowlyThanItsRate(t *testing.T) {
	p := newPlant(20*time.Millisecond, 0)
	p.governor.Recover(p.now)
	for range 60 {
		p.governor.Backlog()
		p.run(time.Second, 5)
	}
	if ok, _ := p.governor.Early(0, 0, p.now); !ok {
		t.Error("a minute after the outage what is left of its backlog is not released early, want it to be")
	}
	p.run(15*time.Second, 5)
	if p.governor.On() {
		t.Error("15 seconds after the backlog's end the governor is on, want it off")
	}
}

func TestGovernor_BoundsItsLimits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var g Governor
		now := begin
		var epochs []uint32
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(time.Second)).Draw(t, "pause")))
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0:
				g.Recover(now)
			case 1, 2:
				n, next, limited := g.Available(len(epochs), now)
				if limited && (n < 0 || n > 1+int(g.Rate()*burst.Seconds())) {
					t.Fatalf("%d may go at once at %.1f a second, want 0 to 1 and what %v brings", n, g.Rate(), burst)
				}
				if limited && n == 0 && len(epochs) == 0 && !next.After(now) {
					t.Fatal("nothing may go, nothing is in flight and there is no next")
				}
				if !limited || n > 0 {
					epochs = append(epochs, g.Take(now))
				}
			default:
				if len(epochs) > 0 {
					r := Result(rapid.IntRange(0, int(Unused)).Draw(t, "result"))
					took := time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "took"))
					g.Done(epochs[0], r, took, now)
					epochs = epochs[1:]
				}
			}
			if r := g.Rate(); g.On() && !(r >= leastRate && r < 1e7) {
				t.Fatalf("the rate is %v, want at least %v", r, leastRate)
			}
			if c := g.Concurrency(); g.On() && c < 3 {
				t.Fatalf("%d may be in flight, want at least 3", c)
			}
		}
	})
}

func TestGovernor_ClockThatIsSetBackHoldsNothingUp(t *testing.T) {
	p := newPlant(20*time.Millisecond, 500)
	p.governor.Recover(p.now)
	p.run(10*time.Second, 0)
	p.now, p.pending, p.inFlight, p.next = p.now.Add(-time.Hour), nil, 0, time.Time{}
	if got := p.run(10*time.Second, 0); got < 4000 {
		t.Errorf("in the 10 s after the clock went back an hour %d operations succeeded, want most of 5000", got)
	}
}

func TestGovernor_ReleasesParkedOperationsEarlyOnceTheBreakerHasClosed(t *testing.T) {
	p := newPlant(20*time.Millisecond, 0)
	if ok, _ := p.governor.Early(0, 0, p.now); ok {
		t.Error("in steady health parked operations are released early, want them to wait for their time")
	}
	p.governor.Recover(p.now)
	p.run(time.Second, 0)
	if ok, before := p.governor.Early(0, 0, p.now); !ok || !before.Equal(begin) {
		t.Errorf("after the breaker closed early release is %t, of what was parked before %v, want before %v", ok, before, begin)
	}
	if ok, _ := p.governor.Early(1, 0, p.now); ok {
		t.Error("while a lane is not empty parked operations are released early, want the lane first")
	}
	p.failing = 1
	p.run(100*time.Millisecond, 0)
	if ok, _ := p.governor.Early(0, 0, p.now); ok {
		t.Error("under strain parked operations are released early, want none")
	}
}
