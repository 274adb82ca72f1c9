// Package events is Rebound's contract. [Operation] is one unit of work that
// failed at its service and may be tried again. The package names the subjects,
// streams and headers that an operation passes through, and defines the events that
// say what became of it. It needs the standard library alone; package events/wire
// turns its values into NATS messages and back.
package events
