package policy

import "testing"

func TestNotes_ResourceAwareRetryWithoutAdaptiveDelaysIsNoted(t *testing.T) {
	for src, want := range map[string]string{
		"billing:\n  enableResourceAwareRetry: true\n  enableAdaptiveBackoff: false\n":                       "file.yaml:2:3: billing.enableResourceAwareRetry: has no effect, because only adaptive delays are lengthened; set enableAdaptiveBackoff: true or backoffStrategy: adaptive as well",
		"billing: {enableResourceAwareRetry: true}":                                                          "", // the default has adaptive delays
		"billing: {enableResourceAwareRetry: true, enableAdaptiveBackoff: false, backoffStrategy: adaptive}": "",
		"billing: {enableResourceAwareRetry: false, enableAdaptiveBackoff: false}":                           "",
		"default: {enableAdaptiveBackoff: false}":                                                            "",
	} {
		set, err := Parse("file.yaml", []byte(src))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, n := range set.Notes() {
			got += n.Error()
		}
		if got != want {
			t.Errorf("%s is noted as %q, want %q", src, got, want)
		}
	}
	if notes := Builtin().Notes(); len(notes) != 0 {
		t.Errorf("the built-in policies are noted as %v, want nothing", notes)
	}
}
