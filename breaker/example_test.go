package breaker_test

import (
	"context"
	"fmt"
	"time"

	"github.com/rebound-mq/rebound/breaker"
)

func Example() {
	group := breaker.NewGroup(breaker.Config{
		Changed: func(c breaker.Change) { fmt.Println(c.Key, c.From, "→", c.To, "because of", c.Cause) },
	})
	charge := group.Breaker("billing:charge", breaker.Settings{Threshold: 2, Timeout: 30 * time.Second})

	ctx, now := context.Background(), time.Now()
	for range 3 {
		permit, err := charge.Allow(ctx, now)
		if err != nil {
			_, next := charge.Ready(now)
			fmt.Println(err, "for", next.Sub(now))
			continue
		}
		permit.Done(breaker.Failure, 80*time.Millisecond, now)
	}
	// Output:
	// billing:charge CLOSED → OPEN because of failures
	// breaker: open for 30s
}

func ExampleStep() {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	circuit := breaker.NewCircuit("billing:charge")
	circuit, _ = breaker.Step(circuit, breaker.Event{Kind: breaker.Trip, For: time.Minute, Note: "deploy"}, now, breaker.Settings{})
	_, effect := breaker.Step(circuit, breaker.Event{Kind: breaker.Acquire}, now, breaker.Settings{})
	fmt.Println(circuit.State, effect.Granted, effect.Next.Sub(now))
	// Output: OPEN false 1m0s
}
