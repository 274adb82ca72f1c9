// Package lanes lets held operations out once the gate of their key opens. [Lanes] does
// so, and with what was parked while a target was ill; [Keys] are the keys that have
// lanes, which a bucket names for all instances. While a gate is shut nothing is done for
// what it holds.
package lanes
