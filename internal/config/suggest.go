package config

import "github.com/rebound-mq/rebound/internal/spelling"

func settingByKey(key string) *setting {
	for i := range settings {
		if settings[i].key == key {
			return &settings[i]
		}
	}
	return nil
}

// settingNames returns a name of every setting, as name chooses it, and more.
func settingNames(name func(*setting) string, more ...string) []string {
	names := more
	for i := range settings {
		names = append(names, name(&settings[i]))
	}
	return names
}

// didYouMean returns a clause that proposes the name nearest to the unknown one,
// or nothing when none is near.
func didYouMean(unknown string, names []string) string {
	if best := spelling.Nearest(unknown, names); best != "" {
		return "; did you mean " + best + "?"
	}
	return ""
}
