// Package pauses keeps the pauses of a deployment in a key-value bucket. A [Follower] puts them in
// force at an instance, ends those whose time is over, and restores them when the bucket is lost.
package pauses
