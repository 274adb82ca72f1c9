package chaos

import (
	"slices"
	"testing"
)

func TestKinds_AreChosenByWord(t *testing.T) {
	for _, test := range []struct {
		words string
		want  []string
	}{
		{"calm", []string{"calm-request", "calm-publish", "calm-one-key", "calm-limits"}},
		{"frozen,calm-limits", []string{"frozen", "frozen-long-lease", "calm-limits"}},
		{"instances,instances", nil},
		{"nothing", nil},
	} {
		chosen, err := Kinds(test.words)
		var got []string
		for _, k := range chosen {
			got = append(got, k.Name)
		}
		if test.want == nil != (err != nil) || err == nil && !slices.Equal(got, test.want) {
			t.Errorf("Kinds(%q) = %v, %v, want %v", test.words, got, err, test.want)
		}
	}
}
