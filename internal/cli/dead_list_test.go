package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/schemas"
)

func TestDeadList_SelectsByEveryFlag(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	ids := c.bury(3, "billing", "charge")
	c.bury(2, "billing", "refund", func(d *events.DeadLetter) { d.Reason = events.ReasonDeadline })
	c.bury(1, "shop", "order", func(d *events.DeadLetter) { d.DiedAt = time.Now() })

	for name, tc := range map[string]struct {
		args []string
		want int
	}{
		"all":                    {nil, 6},
		"a service":              {[]string{"--service", "billing"}, 5},
		"an operation":           {[]string{"--operation", "refund"}, 2},
		"a reason":               {[]string{"--reason", "deadline"}, 2},
		"an error code":          {[]string{"--error-code", "timeout", "--service", "shop"}, 1},
		"another error code":     {[]string{"--error-code", "503"}, 0},
		"the last two hours":     {[]string{"--since", "2h"}, 1},
		"what is older":          {[]string{"--until", "2h"}, 5},
		"a time":                 {[]string{"--until", "2026-01-02T03:04:10Z"}, 0},
		"a limit":                {[]string{"--limit", "4"}, 4},
		"ids, one of them twice": {[]string{ids[0], ids[2], ids[0]}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			r := c.run(append([]string{"dead", "list", "--output", "json"}, tc.args...)...)
			if got := jsonLines[schemas.DeadSummary](t, r.stdout); r.code != 0 || len(got) != tc.want {
				t.Errorf("%d of them, want %d: %s", len(got), tc.want, r.stderr)
			}
		})
	}
	table := c.ok("dead", "list")
	if lines := strings.Split(table, "\n"); len(lines) != 8 || !strings.HasPrefix(lines[0], "ID ") || !strings.HasPrefix(lines[1], ids[0]) {
		t.Errorf("the table is\n%s", table)
	}
}

func TestDead_RefusesInvalidArgumentsAndAMissingStream(t *testing.T) {
	t.Parallel()
	c := bareCLI(t, testkit.Server(t).ClientURL())
	c.fails(exitFailure, "there is no stream RETRY_DEAD", "dead", "list")
	c.fails(exitUsage, `id "x" is not an operation id`, "dead", "list", "x")
	c.fails(exitUsage, "none of exhausted", "dead", "list", "--reason", "bored")
	c.fails(exitUsage, "is not before until", "dead", "list", "--since", "1h", "--until", "2h")
	c.fails(exitUsage, "has no command", "dead", "raise")
}
