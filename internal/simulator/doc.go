// Package simulator tries out, in virtual time, how failed operations are brought
// back: [Run] plays a [Scenario] with a [Strategy] and returns a [Result]. Policy,
// breaker, gate and governor are the very code of the service; what stands
// against them are the retry policies that other systems have by default.
//
// A run is a discrete-event simulation in one goroutine. It reads no clock, and
// the same seed gives the same result.
package simulator
