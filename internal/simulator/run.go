package simulator

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// world is a running scenario.
type world struct {
	*clock
	Scenario
	random   *rand.Rand // for the events of the scenario, the same for all strategies
	jitter   func() float64
	target   *server
	strategy strategy
	rebound  *rebound // nil for other strategies
	*measurement
}

// strategy retries failed operations.
type strategy interface {
	// tried is called with the result of every first try.
	tried(a answer)
	// failed takes over an operation whose first try failed.
	failed(op *operation, a answer)
}

// Run plays a scenario with one of [Strategies]. It returns the error of ctx, or an error if the
// strategy is unknown.
func Run(ctx context.Context, s Scenario, strategy string, seed uint64) (Result, error) {
	begin, ok := strategies[strategy]
	if !ok {
		return Result{}, fmt.Errorf("simulator: there is no strategy %q", strategy)
	}
	c := newClock()
	w := &world{
		clock: c, Scenario: s,
		random:      rand.New(rand.NewPCG(seed, 1)),
		jitter:      rand.New(rand.NewPCG(seed, 2)).Float64,
		target:      &server{Target: s.Target, clock: c, random: rand.New(rand.NewPCG(seed, 3))},
		measurement: new(measurement),
	}
	w.strategy = begin(w)
	w.arrive()
	if err := w.run(ctx, start.Add(s.Patience)); err != nil {
		return Result{}, fmt.Errorf("simulating %s with %s: %w", s.Name, strategy, err)
	}
	return w.result(strategy, w), nil
}

// arrive makes the first try of one operation, and schedules the next arrival.
func (w *world) arrive() {
	since := w.now.Sub(start)
	if since >= w.Length {
		return
	}
	rate := w.Rate
	if since >= w.Burst.From && since < w.Burst.To {
		rate = w.Burst.Rate
	}
	w.after(time.Duration(w.random.ExpFloat64()/rate*float64(time.Second)), w.arrive)

	op := &operation{service: service, kind: ordinary, priority: pickPriority(w.random)}
	if w.random.Float64() < w.PoisonedShare {
		op.kind = poisoned
	}
	w.request(w.now)
	w.target.ask(op, func(a answer) {
		w.strategy.tried(a)
		if !a.failed {
			w.firstTime(w.now)
			return
		}
		op.attempts, op.first = 1, w.now
		w.handedOver(op, w.now)
		w.strategy.failed(op, a)
	})
}

// pickPriority draws a priority: 5 % critical, 15 % high, 60 % normal, 20 % low.
func pickPriority(random *rand.Rand) events.Priority {
	switch r := random.Float64(); {
	case r < 0.05:
		return events.Critical
	case r < 0.2:
		return events.High
	case r < 0.8:
		return events.Normal
	}
	return events.Low
}

// attempt implements site.
func (w *world) attempt(op *operation, done func(a answer) bool, then func(a answer)) {
	op.attempts++
	w.request(w.now)
	w.retry()
	w.target.ask(op, func(a answer) {
		if !done(a) {
			op.attempts--
			return
		}
		if a.failed {
			w.wastedRetry(op)
			then(a)
			return
		}
		op.ended = true
		w.succeededAt(op, w.now)
	})
}

// own implements site.
func (*world) own() time.Duration { return 0 }

// giveUp ends an operation that is not tried again.
func (w *world) giveUp(op *operation) {
	op.ended = true
	w.gaveUpAt(op, w.now)
}

// decide asks the policy about a failed operation.
func (w *world) decide(p *policy.Policy, op *operation, a answer, signals policy.Signals) policy.Decision {
	return p.Decide(op.input(a, signals, w.now), w.jitter)
}
