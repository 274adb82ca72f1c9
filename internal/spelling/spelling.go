// Package spelling finds what a misspelt name probably means, with [Nearest]. [Distance] is for
// callers with their own measure.
package spelling

import "strings"

// maxName bounds the length of a name, in bytes, and so the time that a hostile name takes.
const maxName = 64

// Nearest returns the name that given is probably a misspelling of, or "" if none is similar.
// Letter case, dashes, underscores and dots are ignored. Names with more than two typos, or more
// than one per three letters, are not similar.
func Nearest(given string, names []string) string {
	if len(given) > maxName {
		return ""
	}
	given = plain(given)
	best, least := "", min(3, len(given)/3+1)
	for _, name := range names {
		if d := Distance(given, plain(name)); d < least {
			best, least = name, d
		}
	}
	return best
}

// plain removes what people spell differently.
func plain(name string) string {
	return strings.ToLower(strings.NewReplacer("-", "", "_", "", ".", "").Replace(name))
}

// Distance returns how many bytes must be inserted, removed, changed or swapped with their
// neighbour to turn a into b: the optimal string alignment distance.
func Distance(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := last[j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			row[j] = min(last[j]+1, row[j-1]+1, change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
