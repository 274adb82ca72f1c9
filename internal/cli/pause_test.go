package cli

import (
	"slices"
	"strings"
	"testing"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/doctor"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/schemas"
)

func TestPause_IsShownEverywhereUntilItIsResumed(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.fails(exitFailure, "no service answers", "pause", "*")
	c.service()
	if r := c.run("pause"); r.code != exitOK || r.stdout != "" || !strings.Contains(r.stderr, "nothing is paused") {
		t.Errorf("without a pause the list is %q %q", r.stdout, r.stderr)
	}
	r := c.run("pause", "pay*:c*", "--note", "the bank\nis closed", "--as", "ann@ops")
	if r.code != exitOK || r.stdout != "" || !strings.Contains(r.stderr, "pay*:c* is paused; `rebound resume` ends it") {
		t.Errorf("pausing ended with %d, %q %q", r.code, r.stdout, r.stderr)
	}
	timed := jsonLines[schemas.PauseAdded](t, c.ok("pause", "*", "--for", "2h", "--output", "json"))
	if len(timed) != 1 || timed[0].Until.Sub(timed[0].At).Hours() != 2 || timed[0].By == "" {
		t.Errorf("a pause for two hours is %+v, want one that ends then and says who", timed)
	}
	list := jsonLines[events.Pause](t, c.ok("pause", "--output", "json"))
	if len(list) != 2 || list[1].By != "ann@ops" {
		t.Errorf("the list is %+v", list)
	}
	for _, args := range [][]string{{"pause"}, {"status"}} {
		out := c.ok(args...)
		for _, want := range []string{"PAUSED", "pay*:c*", "ann@ops", "the bank"} {
			if !strings.Contains(out, want) {
				t.Errorf("%v does not show %q:\n%s", args, want, out)
			}
		}
	}
	if f := c.findings(exitOK)["pauses"]; f.Status != doctor.Warn || !strings.Contains(f.Found, "by ann@ops (the bank") {
		t.Errorf("the doctor says %+v, want a warning of who paused what and why", f)
	}
	c.ok("submit", "pay", "charge", "--data", "1")
	testkit.Eventually(t, patience, "the paused key in the status", func() bool {
		out := c.ok("status")
		return strings.Contains(out, "pay:charge") && strings.Contains(out, "paused")
	})
	c.fails(exitFailure, "pay:charge by itself is not paused; it is held by the pause of * and of pay*:c*", "resume", "pay:charge")
	if r := c.run("resume", "pay*:c*"); r.code != exitOK || !strings.Contains(r.stderr, "pay*:c* is resumed") || !strings.Contains(r.stderr, "still held by the pause of *") {
		t.Errorf("resuming ended with %d and %q", r.code, r.stderr)
	}
	c.ok("resume", "*", "--as", "bob", "--note", "done")
	out := c.ok("outcomes", "--events", "--no-follow")
	for _, want := range []string{"pauseChanged", "pay*:c*", "paused by ann@ops: the bank", "resumed by bob: done"} {
		if !strings.Contains(out, want) {
			t.Errorf("the events do not show %q:\n%s", want, out)
		}
	}
}

func TestPause_PatternThatIsNoneIsRefused(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	for _, verb := range []string{"pause", "resume"} {
		c.fails(exitUsage, `the service of pattern "bill?" is none: it may have letters`, verb, "bill?")
		c.fails(exitUsage, `pattern "billing:" has an empty operation type; a pattern is a key (billing:charge)`, verb, "billing:")
		c.fails(exitUsage, "the note has 501 bytes", verb, "billing", "--note", strings.Repeat("x", 501))
		c.fails(exitUsage, "the operator's name has 129 bytes", verb, "billing", "--as", strings.Repeat("x", 129))
	}
	c.fails(exitUsage, "resume takes 1 argument", "resume")
	c.fails(exitUsage, "pause takes at most 1 argument", "pause", "a", "b")
	c.fails(exitUsage, `"soon" is not a duration`, "pause", "a", "--for", "soon")
}

func TestPause_NameThatNobodyHasSeenNeedsYes(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.bury(1, "billing", "charge")
	c.service()
	c.ok("submit", "shop", "order", "--data", "1", "--target", "t.none", "--retry-after", "1h")
	for _, act := range [][]string{{"pause"}, {"breaker", "trip"}, {"breaker", "hold"}, {"breaker", "reset"}} {
		command := func(name string, more ...string) []string {
			return append(append(append([]string{}, act...), name), more...)
		}
		for name, want := range map[string]string{
			"analytics:evnet": "nothing of analytics:evnet was ever seen; --yes does it",
			"unheard:of":      "nothing of unheard:of was ever seen; --yes does it all the same",
			"analytic:x":      "nothing of analytic:x was ever seen",
		} {
			c.fails(exitFailure, want, command(name)...)
		}
		// Both are in a stream: as a dead letter, and waiting.
		c.ok(command("billing:charge")...)
		testkit.Eventually(t, patience, "the submission being taken in", func() bool { return c.run(command("shop:order")...).code == exitOK })
		c.fails(exitFailure, "nothing of shop:ordre was ever seen; did you mean shop:order?", command("shop:ordre")...)
		c.fails(exitFailure, "nothing of shpo:order was ever seen; did you mean shop:order?", command("shpo:order")...)
		c.ok(command("never:heard", "--yes")...)
		if act[0] == "pause" {
			c.ok("resume", "shop:order")
			c.fails(exitFailure, "nothing of shpo was ever seen; did you mean shop?", "pause", "shpo")
			c.ok("pause", "shpo*") // a pattern may come before what it stands for
			c.ok("pause", "analytics")
		}
	}
}

func TestPause_ShellCompletesWhatIsKnown(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	if _, err := c.js.Publish(t.Context(), "retry.outcome.retrySuccess.billing.charge", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	c.service()
	c.ok("pause", "bi*")
	for args, want := range map[string][]string{
		"pause bil": {"billing", "billing:charge"}, "breaker hold bil": {"billing:charge"}, "breaker show billing:": {"billing:charge"},
		"resume ": {"bi*"}, "pause billing ": nil, "resume x": nil,
	} {
		got := strings.Fields(c.ok(append([]string{"__complete"}, strings.Split(args, " ")...)...))
		if !slices.Equal(got, append(want, ":4")) { // 4 is that no files are offered
			t.Errorf("%q is completed by %v, want %v and no files", args, got, want)
		}
	}
}
