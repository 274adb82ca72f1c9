// Package proof checks what was recorded of a history. A [Record] holds what was
// submitted, attempted and told; [Check] returns a [Violation] for every promise that
// it breaks, as a function of the record alone.
package proof
