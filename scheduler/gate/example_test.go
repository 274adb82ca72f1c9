package gate_test

import (
	"fmt"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

func ExampleGate() {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	g := gate.New(gate.Settings{MaxConcurrent: 1})

	pass, _, ok := g.Enter(gate.Conditions{}, now)
	fmt.Println("the first goes:", ok)
	_, answer, ok := g.Enter(gate.Conditions{}, now)
	fmt.Println("the second goes:", ok, "because of", answer.Cause)

	pass.Done(gate.Success, 20*time.Millisecond, now.Add(20*time.Millisecond))
	fmt.Println("then may go:", g.Ready(gate.Conditions{}, now).N)
	// Output:
	// the first goes: true
	// the second goes: false because of concurrency
	// then may go: 1
}

func ExampleGate_Ready() {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	g := gate.New(gate.Settings{})
	open := gate.Conditions{Breaker: gate.Bounded(0, now.Add(time.Minute))}
	closed := gate.Conditions{Breaker: gate.Bounded(breaker.Unlimited, time.Time{})}

	a := g.Ready(open, now)
	fmt.Println(a.N, a.Cause, a.Next.Sub(now))
	a = g.Ready(closed, now.Add(time.Minute))
	fmt.Println(a.N, a.Cause)
	// Output:
	// 0 breaker 1m0s
	// 1 governor
}

func ExampleRoundRobin() {
	lanes := gate.Waiting(0).With(events.Critical).With(events.Low)
	var turns gate.RoundRobin
	served := map[events.Priority]int{}
	for range 100 {
		p, after, _ := turns.Next(lanes)
		turns = after
		served[p]++
	}
	fmt.Println(served[events.Critical], served[events.Low])
	// Output: 95 5
}

func ExamplePressure_Step() {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	p, changed := gate.Pressure{}.Step(gate.Measures{Active: 12_000}, gate.Limits{}, now)
	fmt.Println(p.On, p.Cause, changed)
	p, changed = p.Step(gate.Measures{Active: 100}, gate.Limits{}, now.Add(time.Minute))
	fmt.Println(p.On, changed)
	// Output:
	// true active_retries true
	// false true
}
