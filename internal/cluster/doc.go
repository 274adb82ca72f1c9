// Package cluster makes the instances of Rebound know each other. The most important type
// is [Member], this instance's membership: it reports the instance once a second, receives
// the reports of the others, follows or decides global backpressure, and makes the instance
// take its share of the work. [HealthReports] receives the health reports of services.
//
// All of it goes over core NATS and is stored nowhere; see package health. Guarantees that
// must hold whatever happens, such as the limits of keys, do not depend on it.
//
// # Leadership
//
// One instance, the leader, does the work that must be done only once: it decides on global
// backpressure, reads ahead in the intake and sweeps forgotten schedules. The leader has the
// lowest id of the instances that are serving and were heard within [health.InstanceLease].
// Nobody votes and nothing is stored: each instance finds the leader in its own register.
//
//	         first second is over        a lower id is heard
//	joining ─────────────────────┬──────────────────────────┐
//	 │ leads nothing             ▼                          ▼
//	 │ reports at once,    ┌──────────┐   lower id heard  ┌──────────┐
//	 │ so that the others  │  leader  │ ────────────────▶ │ follower │
//	 │ answer              │          │ ◀──────────────── │          │
//	 │                     └──────────┘  no lower id left └──────────┘
//	 │                        │  ▲                           │  ▲
//	 │     own report not     │  │ own report comes          │  │
//	 │     back               ▼  │ back                      ▼  │
//	 │                     ┌──────────────────────────────────────┐
//	 │                     │ deaf, frozen or starved: stays what  │
//	 │                     │ it was, and all leases stand still   │
//	 │                     └──────────────────────────────────────┘
//	 │ stop                       │ stop
//	 ▼                            ▼
//	leaving: says so, and the others forget it at once
//
// An instance becomes the leader when no lower id is left: the previous leader has said that
// it stops, or was not heard for the lease. A new leader goes on from the backpressure that
// the previous one reported, which it followed until then. An instance that joins leads
// nothing for its first second, in which it hears what was decided before.
//
// A leadership ends when a lower id is heard, or with the instance. A leader whose
// connection is lost, whose process was frozen or that is starved of CPU hears its own
// reports late or not at all, and remains the leader in its own eyes: the silence is not
// the others'. So there may be two
// leaders while two instances do not hear each other. That is why everything that a leader
// does is harmless when done twice. The leader with the higher id follows the other's
// backpressure from its first report on, and reading ahead and sweeping are done by
// compare-and-set.
package cluster
