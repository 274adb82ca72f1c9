// Package layout proves that the packages are laid out as ARCHITECTURE.md says: which
// way imports run, what the pure packages do not reach, and how large a package or a
// struct may be. It has tests alone.
package layout
