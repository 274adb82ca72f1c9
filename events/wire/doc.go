// Package wire encodes the values of package events as NATS messages and decodes them.
// [Submission] is what a service submits; [DecodeSubmission] makes an [events.Operation] of it.
// Every other message has a function that encodes it and one that decodes it. [HeaderValue] reads
// headers in any letter case.
package wire
