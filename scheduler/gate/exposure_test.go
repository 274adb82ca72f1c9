package gate

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// exposedTarget is a target in virtual time behind the exposure of one instance, which has up
// to most operations in flight.
type exposedTarget struct {
	exposure  Exposure
	settings  Settings
	instances int
	most      int
	answers   func() (Result, time.Duration)

	now      time.Time
	flying   []flight // in the order in which they end
	waiting  []time.Time
	attempts int
	failures int // of the attempts that ended
	waited   []time.Duration
	retry    time.Time // when the exposure lets more go by itself
}

type flight struct {
	ends time.Time
	span uint32
	r    Result
}

// send begins what may begin.
func (x *exposedTarget) send() {
	x.retry = time.Time{}
	for len(x.waiting) > 0 && len(x.flying) < x.most {
		n, next, limited := x.exposure.Available(&x.settings, x.instances, x.now)
		if limited && n <= 0 {
			x.retry = next
			return
		}
		x.waited = append(x.waited, x.now.Sub(x.waiting[0]))
		x.waiting = x.waiting[1:]
		r, took := x.answers()
		f := flight{x.now.Add(took), x.exposure.Take(x.now), r}
		i, _ := slices.BinarySearchFunc(x.flying, f, func(a, b flight) int { return a.ends.Compare(b.ends) })
		x.flying = slices.Insert(x.flying, i, f)
		x.attempts++
	}
}

// step goes on to the next answer, or to the next time at which the exposure lets more go. It
// reports false when there is neither before a time, which it then goes on to.
func (x *exposedTarget) step(before time.Time) bool {
	x.send()
	answered := len(x.flying) > 0 && (x.retry.IsZero() || !x.flying[0].ends.After(x.retry))
	switch {
	case answered && x.flying[0].ends.Before(before):
		f := x.flying[0]
		x.flying = x.flying[1:]
		x.now = f.ends
		x.exposure.Done(f.span, f.r, x.now)
		if f.r == Failure {
			x.failures++
		}
	case !answered && !x.retry.IsZero() && x.retry.Before(before):
		x.now = x.retry
	default:
		x.now = before
		return false
	}
	return true
}

// arrive lets n operations come due now.
func (x *exposedTarget) arrive(n int) {
	for range n {
		x.waiting = append(x.waiting, x.now)
	}
}

func always(r Result, took time.Duration) func() (Result, time.Duration) {
	return func() (Result, time.Duration) { return r, took }
}

func TestExposure_DeadTargetGetsNoMoreThanItsBreakerNeedsToOpen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := &exposedTarget{
			settings:  Settings{BreakerThreshold: rapid.IntRange(1, 100).Draw(t, "threshold"), BreakerMinimumCalls: rapid.SampledFrom([]int{0, 1, 20, 1000}).Draw(t, "minimum")},
			instances: rapid.IntRange(1, 10).Draw(t, "instances"), most: 10_000, now: begin,
		}
		var inFlight int
		if rapid.Bool().Draw(t, "it was sound before") {
			x.answers = always(Success, time.Millisecond)
			x.arrive(1)
			for x.step(begin.Add(time.Second)) {
				continue
			}
			x.attempts = 0
			inFlight = rapid.IntRange(1, 1000).Draw(t, "in flight")
		} else {
			inFlight = max(firstExposed/x.instances, x.settings.opensAfter())
		}
		longest := rapid.Int64Range(1, int64(doubleEvery)-1).Draw(t, "longest answer")
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		x.answers = func() (Result, time.Duration) { return Failure, time.Duration(1 + random.Int64N(longest)) }
		x.arrive(inFlight)
		x.send()
		for x.failures == 0 && x.step(x.now.Add(time.Hour)) {
			continue // its first failure is what tells that it is dead
		}
		x.arrive(5000)
		for x.failures < x.settings.BreakerThreshold && x.step(x.now.Add(time.Hour)) {
			continue
		}
		if x.attempts > inFlight+x.settings.BreakerThreshold-1 {
			t.Fatalf("the dead target got %d attempts before %d failures in a row were known, want at most the %d in flight and %d",
				x.attempts, x.settings.BreakerThreshold, inFlight, x.settings.BreakerThreshold-1)
		}
		// Until the breaker opens, however long that takes, one goes after the other.
		known, since := x.attempts, x.now
		for x.step(since.Add(5 * time.Second)) {
			continue
		}
		if more := x.attempts - known; more < 1 || more > int(5*time.Second/doomedPause) {
			t.Fatalf("in the 5 s after that it got %d more, want some, one each %v at most", more, doomedPause)
		}
	})
}

func TestExposure_AnyAnswerThatIsNoFailureFreesAtOnce(t *testing.T) {
	for _, r := range []Result{Success, Throttled, Ignored} {
		var x Exposure
		s := Settings{BreakerThreshold: 5}
		for range 7 {
			x.Done(x.Take(at(0)), Failure, at(0))
		}
		old := x.Take(at(1))
		if n, _, limited := x.Available(&s, 1, at(1)); !limited || n > 0 {
			t.Fatalf("after 7 failures and with an attempt in flight %d may go (limited: %t), want none", n, limited)
		}
		x.Done(old, r, at(1))
		if n, _, limited := x.Available(&s, 1, at(1)); limited {
			t.Errorf("after result %d %d may go, want no bound", r, n)
		}
	}
}

func TestExposure_UnusedPassesAndBreakersLeftOutChangeNothing(t *testing.T) {
	var x Exposure
	s := Settings{BreakerThreshold: 5}
	for range 100 {
		x.Done(x.Take(at(0)), Unused, at(0))
	}
	if n, _, limited := x.Available(&s, 2, at(0)); !limited || n != firstExposed/2 {
		t.Errorf("one of two instances that knows nothing may send %d (limited: %t), want %d", n, limited, firstExposed/2)
	}
	if _, _, limited := x.Available(&Settings{}, 1, at(0)); limited {
		t.Error("a key without a breaker is bounded, want no bound")
	}
}

func TestExposure_ClockThatIsSetBackHoldsNothingForLong(t *testing.T) {
	for name, failures := range map[string]int{"unknown": 0, "failing": 1, "doomed": 9} {
		t.Run(name, func(t *testing.T) {
			x := &exposedTarget{settings: Settings{BreakerThreshold: 5}, instances: 1, most: 1000, now: at(7200), answers: always(Success, time.Second)}
			x.arrive(1)
			x.send() // and this one hangs
			for range failures {
				x.exposure.Done(x.exposure.Take(x.now), Failure, x.now)
			}
			x.now, x.flying = at(0), nil
			x.arrive(100)
			for len(x.waiting) > 0 && x.step(at(5)) {
				continue
			}
			if len(x.waiting) > 0 {
				t.Errorf("%d operations wait after 5 s, want none", len(x.waiting))
			}
		})
	}
}

// randomly answers with one failure in ten at random, after half to one and a half times as
// long as took.
func randomly(took time.Duration, seed uint64) func() (Result, time.Duration) {
	random := rand.New(rand.NewPCG(seed, 1))
	return func() (Result, time.Duration) {
		r := Success
		if random.Float64() < 0.1 {
			r = Failure
		}
		return r, time.Duration((0.5 + random.Float64()) * float64(took))
	}
}

// TestExposure_TargetThatFailsNowAndThenIsNotSlowed compares what a target does that fails one
// in ten with and without a bound, in virtual time.
func TestExposure_TargetThatFailsNowAndThenIsNotSlowed(t *testing.T) {
	for _, took := range []time.Duration{time.Millisecond, 100 * time.Millisecond, time.Second} {
		for _, most := range []int{1, 10, 300} {
			t.Run(fmt.Sprintf("%v, %d in flight", took, most), func(t *testing.T) {
				flatOut := func(threshold int) int {
					x := &exposedTarget{settings: Settings{BreakerThreshold: threshold}, instances: 1, most: most, now: begin, answers: randomly(took, 7)}
					end := begin.Add(500 * took)
					x.arrive(most * 1000)
					for x.step(end) {
						continue
					}
					return x.attempts
				}
				with, without := flatOut(5), flatOut(0)
				t.Logf("flat out: %d attempts with a bound, %d without, %.4f", with, without, float64(with)/float64(without))
				if float64(with) < 0.99*float64(without) {
					t.Errorf("flat out it got %d attempts, want hardly less than the %d without a bound", with, without)
				}
			})
		}
	}
}

// TestExposure_OperationsOfATargetThatFailsNowAndThenAreNotLate lets operations come at random
// at four fifths of what is in flight at most.
func TestExposure_OperationsOfATargetThatFailsNowAndThenAreNotLate(t *testing.T) {
	for _, took := range []time.Duration{time.Millisecond, time.Second} {
		t.Run(took.String(), func(t *testing.T) {
			const most = 300
			x := &exposedTarget{settings: Settings{BreakerThreshold: 5}, instances: 1, most: 10 * most, now: begin, answers: randomly(took, 3)}
			random := rand.New(rand.NewPCG(5, 5))
			pause := took.Seconds() / (0.8 * most)
			for x.attempts < 100_000 {
				next := x.now.Add(time.Duration(random.ExpFloat64() * pause * float64(time.Second)))
				for x.step(next) {
					continue
				}
				x.arrive(1)
				x.send()
			}
			slices.Sort(x.waited)
			p99, p999 := x.waited[len(x.waited)*99/100], x.waited[len(x.waited)*999/1000]
			t.Logf("p99 %v, p99.9 %v, at most %v", p99, p999, x.waited[len(x.waited)-1])
			if p999 > took/20 {
				t.Errorf("99.9 of 100 begin within %v, want a twentieth of the response time, %v, at most", p999, took)
			}
		})
	}
}

// TestExposure_SlowTargetOfWhichNothingIsKnownIsNotKeptWaiting lets a thousand operations come
// at once to a target that takes long.
func TestExposure_SlowTargetOfWhichNothingIsKnownIsNotKeptWaiting(t *testing.T) {
	for _, took := range []time.Duration{10 * time.Millisecond, time.Second, time.Minute} {
		x := &exposedTarget{settings: Settings{BreakerThreshold: 5}, instances: 1, most: 1000, now: begin, answers: always(Success, took)}
		x.arrive(1000)
		for len(x.waiting) > 0 && x.step(at(100)) {
			continue
		}
		if last := x.waited[len(x.waited)-1]; last > 5*time.Second || last > took {
			t.Errorf("the last of 1000 goes after %v to a target that takes %v, want no later than its first answer and after 5 s at most", last, took)
		}
	}
}
