// Package terminal writes for people and programs: a [Table] of aligned columns, JSON
// lines, a progress bar.
package terminal
