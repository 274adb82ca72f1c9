// Package terminal writes for people and their programs: a [Table] of aligned
// columns, JSON lines, a bar of progress.
package terminal
