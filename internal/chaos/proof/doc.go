// Package proof checks the record of a history. A [Record] holds what was submitted, attempted
// and published; [Check] returns a [Violation] for every broken promise, as a function of the
// record alone.
package proof
