// Package demo shows Rebound at work, in one process and on real input: webhooks are delivered to
// a target that fails in several ways, and those that it does not accept are submitted and
// redelivered. [Run] runs the demo and returns a [Summary]; it fails if an operation was lost,
// ended twice or came back with other bytes.
package demo
