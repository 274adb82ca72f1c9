// Package opstore keeps operations in JetStream. [Store] changes an operation's slot, the
// subjects on which it can be, by compare-and-set, and stores how it ends. [Recovery] finds
// out whether a run has ended that another instance may have had. Only answer.go decides
// what an answer of the server proves. [Persister] repeats a call until its answer is
// final, [Elections] knows what a leader may show again although it was removed, and
// [Storage] whether the streams accept writes.
package opstore
