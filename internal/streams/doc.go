// Package streams makes Rebound's streams, buckets and consumers on a NATS server, and
// verifies those that are there. [Configs] has the configuration of every stream, and a
// service calls [Ensure] with it at start.
package streams
