package simulator

import (
	"context"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// longestUntried is how long a key without a pause may have due operations and make no
// attempt.
const longestUntried = 30 * time.Second

// spentFor is for how much longer a budget of a minute may hold a key.
const spentFor = 62 * time.Second

// changes are policies that are put in force while operations wait.
var changes = []string{
	"{}",
	"default: {enableCircuitBreaker: false}",
	"default: {circuitBreakerThreshold: 3, circuitBreakerTimeout: 2s, halfOpenMaxRequests: 3}",
	"default: {maxConcurrentRetries: 2}",
	"default: {retryBudgetPerMinute: 2000}",
	"default: {retryBudgetPerMinute: 1500, maxConcurrentRetries: 5}",
	"default: {noResponders: fail}",
	"default: {enableAdaptiveBackoff: false, baseDelay: 100ms, maxDelay: 2s, jitterType: full}",
	"default: {circuitBreakerFailureRate: 0.5, circuitBreakerMinimumCalls: 10, halfOpenSuccesses: 5}",
}

// TestFleet_NoKeyWithoutAPauseIsEverStuck plays random sequences of what may befall a key.
func TestFleet_NoKeyWithoutAPauseIsEverStuck(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		target, most := sturdy(), longestUntried
		var loads []load
		var acts []func(f *fleet)
		var when []time.Duration
		now := time.Duration(0)
		steps := rapid.IntRange(1, 8).Draw(t, "steps")
		for i := range steps {
			d := time.Duration(rapid.IntRange(500, 20_000).Draw(t, "for")) * time.Millisecond
			trouble := Trouble{From: now, To: now + d}
			rate := rapid.SampledFrom([]float64{0, 0.2, 2, 20, 150}).Draw(t, "rate")
			switch what := rapid.SampledFrom([]string{"well", "some fail", "most fail", "down", "away", "hangs", "slow", "throttles", "trip", "hold and reset", "reset", "policy"}).Draw(t, "what"); what {
			case "some fail":
				trouble.Failing = 0.5
			case "most fail":
				trouble.Failing = 0.9
			case "down":
				trouble.Down = true
			case "away":
				trouble.Away = true
			case "hangs":
				trouble.Hang = true
			case "slow":
				trouble.Slow = 8
			case "throttles":
				trouble.PerSecond, trouble.RetryAfter = 5, time.Second
			case "trip":
				acts, when = append(acts, func(f *fleet) {
					_, _ = f.rebound.breakers.Trip(context.Background(), events.Key(service, ordinary), d, breaker.Operator{})
				}), append(when, now)
			case "hold and reset":
				acts, when = append(acts, func(f *fleet) {
					_, _ = f.rebound.breakers.Hold(context.Background(), events.Key(service, ordinary), breaker.Operator{})
				}), append(when, now)
				fallthrough
			case "reset":
				acts, when = append(acts, func(f *fleet) {
					_, _ = f.rebound.breakers.Reset(context.Background(), events.Key(service, ordinary), breaker.Operator{})
				}), append(when, now+d)
			case "policy":
				change := rapid.SampledFrom(changes).Draw(t, "policy")
				if strings.Contains(change, "PerMinute") {
					most = longestUntried + spentFor
				}
				set, err := policy.Parse("p.yaml", []byte(change))
				if err != nil {
					t.Fatal(err)
				}
				acts, when = append(acts, func(f *fleet) { f.rebound.apply(set) }), append(when, now)
			}
			target.Plan = append(target.Plan, trouble)
			loads = append(loads, load{service: service, kind: ordinary, rate: rate, from: now, to: now + d, burst: i % 2})
			now += d
		}
		f := newFleet(map[string]Target{"": target}, loads, 0, rapid.Uint64().Draw(t, "seed"))
		for i, do := range acts {
			f.at(start.Add(when[i]), func() { do(f) })
		}
		if err := f.play(context.Background(), now+2*time.Hour); err != nil {
			t.Fatal(err)
		}
		if got := f.rebound.untried(); got > most {
			t.Fatalf("a key had due operations and made no attempt for %v, want at most %v", got, most)
		}
		if left, _ := f.unfinished(anything); left > 0 {
			t.Fatalf("%d operations wait two hours after the target was well for good, want none", left)
		}
	})
}

// TestFleet_ScarceBudgetGoesToTheUrgentAndStarvesNobody lets six times as much come as a budget
// of 20 a minute allows.
func TestFleet_ScarceBudgetGoesToTheUrgentAndStarvesNobody(t *testing.T) {
	t.Parallel()
	const length = time.Hour
	f := newFleet(map[string]Target{"": sturdy()}, []load{{service: service, kind: ordinary, rate: 2, to: length}}, 0, 1)
	set, err := policy.Parse("p.yaml", []byte("default: {retryBudgetPerMinute: 20}"))
	if err != nil {
		t.Fatal(err)
	}
	f.rebound.apply(set)
	if err := f.play(context.Background(), length); err != nil {
		t.Fatal(err)
	}
	var tried [len(events.Priorities)]int
	var last [len(events.Priorities)]time.Time
	for p := range last {
		last[p] = start
	}
	for _, try := range f.tries {
		p := try.priority
		if gap := try.at.Sub(last[p]); gap > 2*spentFor {
			t.Errorf("none of priority %s is tried for %v, want %v at most", p, gap, 2*spentFor)
		}
		tried[p]++
		last[p] = try.at
	}
	for _, p := range events.Priorities {
		if gap := start.Add(length).Sub(last[p]); gap > 2*spentFor {
			t.Errorf("none of priority %s is tried in the last %v, want one each %v at least", p, gap, 2*spentFor)
		}
	}
	critical, _ := f.unfinished(func(op *operation) bool { return op.priority == events.Critical })
	if critical > 3 || tried[events.Critical] < 300 {
		t.Errorf("%d critical operations are tried and %d wait, want at least 300, and 3 to wait at most: a quarter of the budget is enough for them", tried[events.Critical], critical)
	}
	if all := len(f.tries); all < 1000 || all > 1200 {
		t.Errorf("%d operations are tried in an hour, want 20 a minute at most and 1000 at least: the budget is used", all)
	}
}
