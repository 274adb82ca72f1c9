// Package chaos runs histories: real NATS servers, instances of Rebound, targets, workers,
// producers and an operator on this machine, under faults chosen by a seed, until all faults have
// ended and everything has drained. [Run] runs one history, [Kinds] lists the kinds of histories.
// Everything submitted, attempted and published goes into a record, which package proof checks.
package chaos
