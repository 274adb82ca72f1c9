// Package demo shows Rebound at work, in one process and on real input:
// webhooks are delivered to a target that falls ill, and what it fails to take
// is submitted and redelivered. [Run] does it and returns a [Summary]; it fails
// when one operation was lost, ended twice or came back with other bytes.
package demo
