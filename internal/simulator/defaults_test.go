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
	for _, f := range findings {
		if !f.OK {
			t.Errorf("%s: %q, want: %q", f.Situation, f.Happened, f.Must)
		}
	}
}
