// Package adoption takes over what existing JetStream consumers give up. An [Adoption] is
// one such consumer. A [Bucket] keeps the adoptions for all instances, and a [Follower] puts
// them in force: a [Capture] stores the server's advisories about these consumers, and a
// [Relay] stores those that the capture missed. A [Takeover] turns each advisory's message
// into an operation, once, as a [Ledger] remembers which are taken over already.
package adoption
