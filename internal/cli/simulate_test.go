package cli

import (
	"strings"
	"testing"

	"github.com/rebound-mq/rebound/internal/simulator"
)

func TestSimulate_ComparesStrategies(t *testing.T) {
	c := &cli{t: t, env: []string{"HOME=" + t.TempDir()}}
	results := jsonLines[simulator.Result](t, c.ok("simulate", "--scenario", "brown-out", "--output", "json"))
	if len(results) != len(simulator.Strategies()) {
		t.Fatalf("there are %d results, want one for each of the %d strategies", len(results), len(simulator.Strategies()))
	}
	for i, r := range results {
		if r.Scenario != "brown-out" || r.Strategy != simulator.Strategies()[i] || r.Operations == 0 || r.Succeeded == 0 {
			t.Errorf("result %d is %+v, want some of the operations recovered by %s", i, r, simulator.Strategies()[i])
		}
	}
	got := c.run("simulate", "--scenario", "short-outage", "--strategy", "rebound", "--seed", "3")
	if got.code != exitOK || !strings.Contains(got.stdout, "GOODPUT") || !strings.Contains(got.stdout, "short-outage  rebound") || !strings.Contains(got.stderr, "the target is down for 20 s") {
		t.Errorf("the table is %+v, want one row of the short outage", got)
	}
	c.fails(exitUsage, `"hope" is none of all, rebound`, "simulate", "--strategy", "hope")
}

func TestSimulate_DefaultsAreRebounds(t *testing.T) {
	c := &cli{t: t, env: []string{"HOME=" + t.TempDir()}}
	c.fails(exitUsage, "--strategy temporal has no defaults to judge", "simulate", "--scenario", "defaults", "--strategy", "temporal")
}

func TestSimulate_WritesWhatMustHappenBesideWhatHappened(t *testing.T) {
	var b strings.Builder
	err := writeFindings(&b, []simulator.Finding{
		{Situation: "all is well", Must: []string{"nothing"}, Happened: []string{"little", "no more"}, OK: true},
		{Situation: "all is ill", Must: []string{"something", "soon"}, Happened: []string{"nothing"}},
	})
	const want = "OK   SITUATION    MUST HAPPEN  HAPPENED\n" +
		"yes  all is well  nothing      little\n" +
		"                               no more\n" +
		"no   all is ill   something    nothing\n" +
		"                  soon          \n"
	if got := b.String(); err != nil || got != want {
		t.Errorf("got %v\n%s\nwant\n%s", err, got, want)
	}
}
