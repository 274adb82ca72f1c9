// Package chaos runs histories: real NATS servers, instances of Rebound, targets,
// workers, producers and an operator on this machine, under faults that a seed
// chooses, until all faults have ended and everything has drained. [Run] runs one,
// [Kinds] lists what it can be about. What was submitted, attempted and told is a
// record, which package proof checks.
package chaos
