// Package streams makes Rebound's streams and consumers on a NATS server, and
// verifies those that are there. [Ensure] is what a service calls at start.
package streams
