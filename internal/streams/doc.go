// Package streams creates Rebound's streams, buckets and consumers on a NATS server, and verifies
// existing ones. [Configs] returns the configuration of every stream, with which a service calls
// [Ensure] at start.
package streams
