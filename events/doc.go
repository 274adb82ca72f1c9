// Package events is Rebound's contract. [Operation] is one unit of work that
// failed at its service and may be tried again; the package reads it from a
// NATS message, names the subjects and streams that it passes through, and
// defines the events that tell what became of it.
package events
