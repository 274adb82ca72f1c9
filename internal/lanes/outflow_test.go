package lanes

import (
	"testing"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/scheduler"
)

// drained returns how long it takes to let n operations out at a target that hangs, of which
// another instance gets every other one and holds it again if shared.
func drained(t *testing.T, n int, shared bool) time.Duration {
	t.Helper()
	const poll = 50 * time.Millisecond
	start := time.Unix(1_000_000, 0)
	var f outflow
	f.begin(start)
	gate := scheduler.Quota{N: breaker.Unlimited}
	lost := 0
	for now := start; now.Before(start.Add(time.Minute)); now = now.Add(poll) {
		out := min(f.allows(gate, now), n-gate.InFlight)
		f.released(out, now)
		for range out {
			if lost++; shared && lost%2 == 0 {
				continue
			}
			gate.Arrivals++
			gate.InFlight++
		}
		if gate.InFlight == n {
			return now.Sub(start)
		}
	}
	t.Fatalf("%d of %d operations were let out within a minute", gate.InFlight, n)
	return 0
}

func TestOutflow_WhatAnotherInstanceGotLeavesRoomForOthers(t *testing.T) {
	for _, n := range []int{60, 250, 1000} {
		alone, shared := drained(t, n, false), drained(t, n, true)
		if shared > 2*alone {
			t.Errorf("%d operations leave within %v when another instance gets every other one, want at most twice the %v of a single instance", n, shared, alone)
		}
	}
}

func TestOutflow_WindowStandsWhileAttemptsEnd(t *testing.T) {
	for _, lost := range []float64{0, 1.0 / 3} {
		now := time.Unix(1_000_000, 0)
		var f outflow
		f.begin(now)
		gate := scheduler.Quota{N: breaker.Unlimited}
		for range 2000 {
			now = now.Add(50 * time.Millisecond)
			gate.InFlight -= (gate.InFlight + 99) / 100
			out := f.allows(gate, now)
			f.released(out, now)
			arrived := out - int(lost*float64(out))
			gate.Arrivals += uint64(arrived)
			if gate.InFlight += arrived; gate.InFlight > lastWindow {
				t.Fatalf("%d operations are in flight because they were let out, want at most %d while attempts end", gate.InFlight, lastWindow)
			}
		}
		if gate.InFlight < lastWindow*3/4 {
			t.Errorf("%d operations are in flight in the end when a share of %.2f is lost to another instance, want nearly the window of %d", gate.InFlight, lost, lastWindow)
		}
	}
}
