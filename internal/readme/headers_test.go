package readme

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rebound-mq/rebound/events"
)

func TestHeaders_TakenOutAreListedAsTheCodeHasThem(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	for after, want := range map[string][]string{"Rebound's own:": events.OwnHeaders, "The NATS server's and NATS micro's:": events.ServerHeaders} {
		_, list, _ := strings.Cut(string(text), "\n"+after+"\n")
		list, _, _ = strings.Cut(list, "\n\n")
		var got []string
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(list, -1) {
			got = append(got, m[1])
		}
		if !slices.Equal(got, want) {
			t.Errorf("ARCHITECTURE.md lists after %q\n%q, want\n%q", after, got, want)
		}
	}
}
