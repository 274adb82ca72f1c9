package spelling

import "testing"

func TestNearest_FindsTheMostSimilarName(t *testing.T) {
	names := []string{"maxAttempts", "maxDelay", "baseDelay", "jitterType"}
	for name, tc := range map[string]struct{ given, want string }{
		"a letter too few":                {"maxAttemps", "maxAttempts"},
		"two letters swapped":             {"maxDealy", "maxDelay"},
		"underscores and another case":    {"JITTER_TYPE", "jitterType"},
		"nothing like it":                 {"timeout", ""},
		"too short to tell":               {"x", ""},
		"the nearer of two that are near": {"baxDelay", "maxDelay"},
		"nothing at all":                  {"", ""},
		"longer than any name":            {string(make([]byte, 1<<20)), ""},
	} {
		if got := Nearest(tc.given, names); got != tc.want {
			t.Errorf("%s: Nearest(%.20q) = %q, want %q", name, tc.given, got, tc.want)
		}
	}
}
