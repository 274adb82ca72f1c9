// Package health keeps what is known of the services' health. [Registry] receives the result of
// every attempt that Rebound makes and the figures that services report themselves. It returns
// the [Figures] for a decision, or the [Metrics] for people.
//
// Only redeliveries are measured. A submission reports one operation that failed, but not those
// that succeeded meanwhile; counted as attempts, submissions would make every service look dead.
//
// [Register] knows the instances of Rebound, which report to each other once a second. It returns
// their [Coordination]: how many they are, what they have in flight together, and what share each
// should take. The reports use core NATS and not Redis, because no instance can work without
// NATS: one that cannot be heard there has no operations either. So the view survives every
// failure of Redis, needs neither a store nor a common clock, and costs one small message per
// instance and second. Like all health it is advice: a late report is useless, and a lost one is
// followed by another within a second. Limits that must be kept are leased from a store instead.
//
// The package is pure: the time is an argument, and nothing here does I/O.
package health
