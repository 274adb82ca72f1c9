// Package chaos runs histories: real NATS servers, instances of Rebound, targets,
// workers, producers and an operator on this machine, under faults that a seed
// chooses, until all faults have ended and everything has drained. What was
// submitted, attempted and told is a [Record]; [Check] proves it, as a function of
// the record alone, and returns a [Violation] for everything that is lost, told
// twice, early, stuck or repeated without a word.
//
// [Kinds] lists what a history can be about and [Run] runs one.
package chaos
