// Package events is Rebound's contract. [Operation] is one unit of work that failed at its
// service and may be tried again. The package names the subjects, streams and headers of an
// operation, and defines the events that report on it. It depends on the standard library alone;
// package events/wire encodes its values as NATS messages and decodes them.
package events
