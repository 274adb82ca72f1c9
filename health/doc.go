// Package health keeps what is known of the services' health. [Registry] is fed
// with the result of every attempt that Rebound makes and with the figures that
// services report of themselves, and answers with the [Figures] that a decision
// goes by, or with the [Metrics] that people read.
//
// Only redeliveries are measured. A submission reports one operation that
// failed, and nothing of those that succeeded meanwhile; counted as attempts,
// submissions would make every service look dead.
//
// [Register] knows the instances of Rebound, which report themselves to each other
// once a second, and answers with [Coordination]: how many they are, what all of
// them have in flight, and who should take how much. They do so over core NATS and
// not through Redis, because each of them is on NATS anyway and none can work
// without it: an instance that cannot be heard there has no operations either. So the
// view survives every fault of Redis, needs no store and no clock in common, and
// costs one small message an instance a second. It is advice, like all health:
// what is late is of no use and what is lost comes again in a second. Limits that
// must hold are leased from a store, not read off here.
//
// The package is pure: the time is an argument, and nothing here does I/O.
package health
