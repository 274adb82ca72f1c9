package cli

import (
	"strings"
	"testing"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestDeadReplay_WaitsForAService(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	if _, err := c.nc.Subscribe("ok.charge", reply); err != nil {
		t.Fatal(err)
	}
	ids := c.bury(20, "billing", "charge")
	c.bury(5, "shop", "order")
	if r := c.run("dead", "replay", ids[0]); !strings.Contains(r.stderr, "1 dead letter replayed") {
		t.Errorf("%+v", r)
	}
	r := c.run("dead", "replay", "--service", "billing")
	if r.code != 0 || !strings.Contains(r.stderr, "19 dead letters replayed") || !strings.Contains(r.stderr, "1 dead letter needed nothing") {
		t.Errorf("%+v", r)
	}
	if n := c.messages("RETRY_DEAD"); n != 25 {
		t.Errorf("without a service %d dead letters are left", n)
	}
	c.service()
	testkit.Eventually(t, patience, "all 20 succeed", func() bool {
		return c.messages("RETRY_DEAD") == 5 && strings.Count(c.ok("outcomes", "--no-follow", "--only", "success", "--output", "json"), "\n") == 20
	})
}

func TestDead_ActsOnlyOnWhatIsSelected(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	ids := c.bury(3, "billing", "charge")
	c.fails(exitUsage, "would replay every dead letter", "dead", "replay")
	c.fails(exitUsage, "would discard every dead letter", "dead", "discard", "--limit", "1")
	c.fails(exitUsage, `"fast" is no rate`, "dead", "replay", "--rate", "fast")
	if r := c.run("dead", "discard", "--dry-run"); r.code != 0 || !strings.Contains(r.stderr, "3 dead letters would be discarded") {
		t.Errorf("%+v", r)
	}
	if n := c.messages("RETRY_DEAD"); n != 3 {
		t.Errorf("%d dead letters are left", n)
	}
	missing := strings.Repeat("0", 32)
	c.fails(exitFailure, "no such dead letter: "+missing, "dead", "discard", missing, ids[1])
	if n := c.messages("RETRY_DEAD"); n != 2 {
		t.Errorf("%d dead letters are left", n)
	}
	if r := c.run("dead", "discard", "--yes", "--rate", "1000/s"); r.code != 0 || !strings.Contains(r.stderr, "2 dead letters discarded") {
		t.Errorf("%+v", r)
	}
	if n := c.messages("RETRY_DEAD"); n != 0 {
		t.Errorf("%d dead letters are left", n)
	}
}

func TestDeadReplay_LeavesATruncatedPayloadAlone(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.bury(1, "billing", "charge", func(d *events.DeadLetter) { d.Truncated = 1 << 20 })
	if r := c.run("dead", "replay", "--yes"); r.code != 0 || !strings.Contains(r.stderr, "1 dead letter left alone") {
		t.Errorf("%+v", r)
	}
	if n := c.messages("RETRY_INTAKE"); n != 0 {
		t.Errorf("%d replays are asked for", n)
	}
}

func TestDeadReplay_IsInterruptedAndResumed(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	const all = 5000
	c.bury(all, "billing", "charge")
	r := c.start(nil, "dead", "replay", "--service", "billing", "--rate", "500/s")
	testkit.Eventually(t, patience, "some are replayed", func() bool { return c.messages("RETRY_INTAKE") > 100 })
	r.interrupt()
	checkFailure(t, r.wait(), exitFailure, "the same command goes on with the rest")
	if n := c.messages("RETRY_INTAKE"); n >= all {
		t.Errorf("%d replays are asked for in spite of the interruption", n)
	}
	c.ok("dead", "replay", "--service", "billing")
	if n := c.messages("RETRY_INTAKE"); n != all {
		t.Errorf("%d replays are asked for", n)
	}
}
