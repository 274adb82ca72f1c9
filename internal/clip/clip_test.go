package clip_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/rebound-mq/rebound/internal/clip"
)

func TestText_CutsBetweenCharacters(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, limit := rapid.String().Draw(t, "s"), rapid.IntRange(0, 20).Draw(t, "limit")
		got := clip.Text(s, limit)
		if len(s) <= limit {
			if got != s {
				t.Fatalf("%q became %q", s, got)
			}
			return
		}
		kept, cut := strings.CutSuffix(got, "…")
		if !cut || len(kept) > limit || !strings.HasPrefix(s, kept) || !utf8.ValidString(got) {
			t.Fatalf("%q cut after %d bytes is %q", s, limit, got)
		}
	})
}

func TestLine_FoldsWhiteSpace(t *testing.T) {
	if got := clip.Line(" a\r\n b\t c "); got != "a b c" {
		t.Errorf("got %q, want a b c", got)
	}
}

func TestIsLine_WantsPrintableTextOfBoundedLength(t *testing.T) {
	for s, want := range map[string]bool{"": true, "a b": true, "abcd": false, "a\nb": false, "\xff": false} {
		if got := clip.IsLine(s, 3); got != want {
			t.Errorf("%q: got %v, want %v", s, got, want)
		}
	}
}
