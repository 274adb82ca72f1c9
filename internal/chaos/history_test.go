//go:build linux

package chaos

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/internal/chaos/machine"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// TestHistories_LoseNothing runs a few short histories; "make chaos" runs all kinds.
func TestHistories_LoseNothing(t *testing.T) {
	dir := t.TempDir()
	config := Config{
		Rebound: filepath.Join(dir, "rebound"), NATSServer: filepath.Join(dir, "nats-server"),
		// The bound allows for a busy machine.
		Lasting: 10 * time.Second, Rate: 40, Drain: 3 * time.Minute, Dir: dir,
	}
	for path, from := range map[string]string{config.Rebound: machine.Program, config.NATSServer: machine.NATSServer} {
		if err := machine.Build(t.Context(), path, from); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		kind string
		seed uint64
	}{
		{"calm-publish", 1},
		{"leaders-request", 2},
		{"instances", 3},
	} {
		t.Run(test.kind, func(t *testing.T) {
			t.Parallel()
			kinds, err := Kinds(test.kind)
			if err != nil {
				t.Fatal(err)
			}
			report, err := Run(t.Context(), config, kinds[0], test.seed)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d submitted, %d attempts, %d outcomes, %d faults in %s", len(report.Record.Submissions),
				len(report.Record.Attempts), len(report.Record.Outcomes), len(report.Record.Faults), report.Took.Round(time.Second))
			if len(report.Violations) > 0 {
				var text strings.Builder
				report.Print(&text)
				t.Errorf("%d violations:\n%s", len(report.Violations), text.String())
			}
		})
	}
}
