package simulator

import (
	"testing"
)

func TestDefaults_DoWhatAnExpertWouldHaveConfigured(t *testing.T) {
	t.Parallel()
	findings, err := Defaults(t.Context(), []uint64{1, 2})
	if err != nil {
		t.Fatal(err)
	}
	// What is yet to be built.
	later := map[string]bool{
		"one target hangs until the timeout, 20,000 operations due": true,
	}
	for _, f := range findings {
		t.Logf("%v %s: %q", f.OK, f.Situation, f.Happened)
		if !f.OK && !later[f.Situation] {
			t.Errorf("%s: %q, want: %q", f.Situation, f.Happened, f.Must)
		}
	}
}
