// Package shrink gives back the memory of maps that have lost most of what they held.
package shrink

import "maps"

// cheap is how many entries are copied without a second thought.
const cheap = 1000

// Map returns m, from which so many entries were deleted just now, or a copy that takes
// no more memory than they need. A map keeps what it took for the most entries that it
// ever had, some 35 bytes each. It is copied when that is cheap, or when at least half
// of it has gone.
func Map[M ~map[K]V, K comparable, V any](m M, deleted int) M {
	if deleted <= 0 || len(m) > cheap && deleted < len(m) {
		return m
	}
	// Not maps.Clone, which copies the memory as it is.
	small := make(M, len(m))
	maps.Copy(small, m)
	return small
}
