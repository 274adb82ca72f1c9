// Package adoption takes over messages that existing JetStream consumers give up. An
// [Adoption] is one such consumer. A [Bucket] keeps the adoptions for all instances, and a
// [Follower] puts them in force: a [Capture] stores the server's advisories about these
// consumers, and a [Relay] stores those that the capture missed. A [Takeover] turns each
// advisory's message into an operation, only once because a [Ledger] remembers those that
// were taken over.
package adoption
