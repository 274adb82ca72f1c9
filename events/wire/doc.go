// Package wire puts the values of package events into NATS messages and reads them
// back. [Submission] is what a service hands over; [DecodeSubmission] makes an
// [events.Operation] of it. Every other message has a function that encodes it and
// one that decodes it, and headers are read by [HeaderValue], whatever their letter
// case.
package wire
