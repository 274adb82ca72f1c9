// Package breaker keeps failing targets from being called. A [Group] holds the breakers of one
// instance, one [Breaker] per key; [Breaker.Allow] returns a [Permit] and [Permit.Done] reports
// how the attempt ended.
//
// [Step] is the state machine, one pure function of a [Circuit] and an [Event]. The circuits live
// in the process alone or, if several instances work together, in a [Store]: one of the packages
// redisstore and natsstore or, within one process, [Memory]. The package itself does no network
// I/O. A closed breaker never waits for its store: results are counted in the process and sent in
// batches, failures at once. The store gives out the permits of a half-open breaker, so that all
// instances together stay within the bound. While the store is out of reach an instance goes on
// alone from the last known state and gives out its own probes; when the store is back the worse
// state wins.
package breaker
