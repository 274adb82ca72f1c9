// Package breaker keeps failing targets from being tried. [Group] holds the
// breakers of one instance, one [Breaker] per key; [Breaker.Allow] asks it for a
// [Permit] and [Permit.Done] tells it how the attempt ended.
//
// [Step] is the state machine, one pure function over a [Circuit]. The circuits
// live in the process alone or, when several instances work together, in a
// [Store]: one of the packages redisstore and natsstore or, within one process,
// [Memory]. The package itself reaches no network. A closed breaker
// never waits for its store: results are counted in the process and sent in
// batches, a failure at once. Permits of a half-open breaker are given out by the
// store, so that all instances together stay within the bound. While the store
// is out of reach an instance goes on alone from what it last knew, giving out
// probes by itself, and when the store is back the worse state wins.
package breaker
