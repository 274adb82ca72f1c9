package policy

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/rebound-mq/rebound/events"
)

// Delays is how the delay after one attempt is distributed.
type Delays struct {
	// Attempt is the attempt that failed, from 1.
	Attempt int
	// Min and Max are the shortest and the longest delay that there can be, and
	// P50, P90 and P99 those that 50, 90 and 99 percent do not exceed.
	Min, P50, P90, P99, Max time.Duration
	// Simulated tells that P50, P90 and P99 were estimated from draws, as the
	// history that a decorrelated delay depends on leaves no other way. They are
	// the same at every call.
	Simulated bool
}

// MarshalJSON implements [json.Marshaler] with figures in milliseconds, as
// events have them.
func (d Delays) MarshalJSON() ([]byte, error) {
	ms := events.InMilliseconds
	return json.Marshal(struct {
		Attempt   int     `json:"attempt"`
		MinMs     float64 `json:"minMs"`
		P50Ms     float64 `json:"p50Ms"`
		P90Ms     float64 `json:"p90Ms"`
		P99Ms     float64 `json:"p99Ms"`
		MaxMs     float64 `json:"maxMs"`
		Simulated bool    `json:"simulated,omitempty"`
	}{d.Attempt, ms(d.Min), ms(d.P50), ms(d.P90), ms(d.P99), ms(d.Max), d.Simulated})
}

// How decorrelated delays are simulated. An error of p99 of about 0.3 percentage
// points, which is sqrt(0.99 × 0.01 / 1000), is well below what a reader can use.
const (
	simulatedRuns = 1000
	// simulatedSteps is the attempt after which the distribution is taken for
	// settled: delays have long come to their cap by then.
	simulatedSteps = 100
)

// Delays returns how the delay after the given attempt is distributed for an
// operation of that priority, when every decision on the way found the same
// signals. A Retry-After is not taken into account.
//
// What is drawn evenly between a and b has its quantile q at a + q × (b − a),
// which holds for all jitters but decorrelated.
func (p *Policy) Delays(attempt int, priority events.Priority, s Signals) Delays {
	attempt = max(attempt, 1)
	product := 1.0
	if p.Adapts() {
		product = p.factors(&s, freshness(s.Age), priority).Product()
	}
	if p.JitterType == DecorrelatedJitter && attempt > 1 {
		return p.simulate(attempt, product)
	}
	low, high := p.spread(attempt, 0, product)
	at := func(q float64) time.Duration { return p.draw(low, high, func() float64 { return q }) }
	return Delays{Attempt: attempt, Min: at(0), P50: at(0.5), P90: at(0.9), P99: at(0.99), Max: at(1)}
}

// simulate returns the distribution of a decorrelated delay. Its shortest and
// longest delays are exact: all draws the lowest, all the highest.
func (p *Policy) simulate(attempt int, product float64) Delays {
	steps := min(attempt, simulatedSteps)
	after := func(random func() float64) (previous time.Duration) {
		for n := 1; n <= steps; n++ {
			low, high := p.spread(n, previous, product)
			previous = p.draw(low, high, random)
		}
		return previous
	}
	source := rand.New(rand.NewPCG(1, 2))
	runs := make([]time.Duration, simulatedRuns)
	for i := range runs {
		runs[i] = after(source.Float64)
	}
	slices.Sort(runs)
	at := func(q float64) time.Duration { return runs[int(math.Ceil(q*simulatedRuns))-1] }
	return Delays{
		Attempt: attempt, P50: at(0.5), P90: at(0.9), P99: at(0.99), Simulated: true,
		Min: after(func() float64 { return 0 }), Max: after(func() float64 { return 1 }),
	}
}
