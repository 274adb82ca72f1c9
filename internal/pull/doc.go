// Package pull takes messages from a durable consumer and keeps their leases. The most
// important type is [Puller], which pulls no more messages than the in-flight limit
// allows, renews the lease of each while it is handled, and settles it with the server
// afterwards. A [Message] is one that is in flight: pulled and not acknowledged. It
// knows whether another instance may have it as well. A [Limit] bounds how many messages
// are in flight and can be lowered while they are; [Bytes] bounds their size. In a [Queue]
// wait those whose work can wait.
package pull
