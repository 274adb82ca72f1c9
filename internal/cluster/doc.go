// Package cluster makes the instances of Rebound know each other. The most important type
// is [Member], this instance among the others: it reports itself once a second, hears the
// reports of the others, follows or decides global backpressure, and has this instance
// take its share of the work. [HealthReports] hears what services report of themselves.
//
// All of it goes over core NATS and is stored nowhere, see package health. What must hold
// whatever happens, such as the limits of keys, does not depend on it.
//
// # Leadership
//
// One instance, the leader, does what is to be done once for all of them: it decides on
// global backpressure, reads ahead in the intake and sweeps what the server forgot. The
// leader is whoever has the lowest id of those that are serving and were heard within
// [health.InstanceLease]. Nobody votes and nothing is stored: each instance reads the
// leader off its own register.
//
//	         first second is over        a lower id is heard
//	joining ─────────────────────┬──────────────────────────┐
//	 │ leads nothing             ▼                          ▼
//	 │ reports at once,    ┌──────────┐   lower id heard  ┌──────────┐
//	 │ so that the others  │  leader  │ ────────────────▶ │ follower │
//	 │ answer              │          │ ◀──────────────── │          │
//	 │                     └──────────┘  no lower id left └──────────┘
//	 │                        │  ▲                           │  ▲
//	 │     own report not     │  │ own report heard again    │  │
//	 │     heard for 1.5 s    ▼  │                           ▼  │
//	 │                     ┌──────────────────────────────────────┐
//	 │                     │ deaf: stays what it was, forgets     │
//	 │                     │ nobody, renews all leases            │
//	 │                     └──────────────────────────────────────┘
//	 │ stop                       │ stop
//	 ▼                            ▼
//	leaving: says so, and the others forget it at once
//
// What makes an instance the leader is that no lower id is left: the one before has said
// that it stops, or was not heard for the lease. A new leader goes on from the
// backpressure that the one before reported, because it followed that until then. An
// instance that joins leads nothing for its first second, in which it hears what was
// decided before.
//
// What ends a leadership is a lower id that is heard, or the end of the instance. A leader
// whose connection is lost, or whose process stood still, does not hear its own reports
// and remains the leader in its own eyes: the silence is not the others'. So there may be
// two leaders for as long as two instances do not hear each other. That is why everything
// that a leader does is harmless when it is done twice. Backpressure of the leader with
// the higher id ends at the first report of the other; what is read ahead or swept is
// changed by compare-and-set.
package cluster
