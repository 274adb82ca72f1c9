package config

import "strings"

func settingByKey(key string) *setting {
	for i := range settings {
		if settings[i].key == key {
			return &settings[i]
		}
	}
	return nil
}

// settingNames returns one of the names of every setting, and more.
func settingNames(name func(*setting) string, more ...string) []string {
	names := more
	for i := range settings {
		names = append(names, name(&settings[i]))
	}
	return names
}

// didYouMean returns a clause that proposes the name that is most like the
// unknown one, or nothing when none is like it.
func didYouMean(unknown string, names []string) string {
	best, least := "", 3 // more than two slips are another word
	for _, name := range names {
		if d := distance(plain(unknown), plain(name)); d < least {
			best, least = name, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// plain returns the name without what people spell differently.
func plain(name string) string {
	return strings.ToLower(strings.NewReplacer("-", "", "_", "", ".", "").Replace(name))
}

// distance returns how many letters must be inserted, removed, changed or
// swapped with their neighbour to make b of a.
func distance(a, b string) int {
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
