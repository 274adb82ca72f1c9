// Package opstore keeps operations in JetStream. [Store] changes an operation's slot,
// the subjects on which it can stand, by compare-and-set, and stores what ends it;
// [Recovery] finds out whether a run has ended that another instance may have had. What
// an answer of the server proves is said in one place, answer.go. [Persister] repeats a
// call until that is final, [Elections] knows what a leader may show again although it was
// removed, and [Storage] whether the streams take what is stored.
package opstore
