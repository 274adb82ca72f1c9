// Package shrink releases the memory of maps that have lost most of their entries.
package shrink

import "maps"

// cheap is the number of entries up to which a map is always copied.
const cheap = 1000

// Map returns m, from which deleted entries were just removed, or a copy with no more memory than
// needed. A map keeps the memory for the most entries that it ever had, about 35 bytes each. Map
// copies it if that is cheap, or if at least half of the entries have gone.
func Map[M ~map[K]V, K comparable, V any](m M, deleted int) M {
	if deleted <= 0 || len(m) > cheap && deleted < len(m) {
		return m
	}
	// maps.Clone would copy the excess memory, too.
	small := make(M, len(m))
	maps.Copy(small, m)
	return small
}
