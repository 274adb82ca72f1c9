// Package lanes lets held operations out once the gate of their key opens. [Lanes] does
// so, also for operations that were parked during an outage. [Keys] are the keys that have
// lanes, which a bucket names for all instances. Held operations cost nothing while their
// gate is shut.
package lanes
