// Package simulator simulates in virtual time how failed operations are retried: [Run] plays a
// [Scenario] with a [Strategy] and returns a [Result]. Rebound's policy, breaker, gate and
// governor are the service's own code; the other strategies are the default retry policies of
// other systems.
//
// A run is a discrete-event simulation in one goroutine. It reads no clock, and the same seed
// gives the same result.
package simulator
