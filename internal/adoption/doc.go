// Package adoption lets Rebound take over what existing JetStream consumers give
// up. An [Adoption] is one such consumer; a [Bucket] keeps them for all instances,
// a [Capture] stores the server's advisories about them, and a [Ledger] remembers
// which messages are taken over, so that each is once.
package adoption
