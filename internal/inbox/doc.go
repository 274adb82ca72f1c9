// Package inbox makes requests to targets and publishes to streams. An [Inbox] receives the
// replies to all of them on one subscription, and a [Publisher] stores messages with it.
package inbox
