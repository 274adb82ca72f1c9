package cli

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rebound-mq/rebound/internal/cli/command"
	"github.com/rebound-mq/rebound/schemas"
)

func policyFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policies.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPolicy_IsAppliedShownAndRolledBack(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.fails(exitFailure, "no policies were applied", "policy", "history")
	c.fails(exitFailure, "no service answers", "policy", "show")
	first := policyFile(t, "# patient billing\nbilling: {maxAttempts: 7}\n")
	if r := c.run("policy", "apply", first); r.code != exitOK || !strings.Contains(r.stderr, "revision 1 is applied; no instance is running") {
		t.Errorf("applying without an instance gave %+v", r)
	}
	c.service()
	if got := c.ok("policy", "show", "billing"); !strings.Contains(got, "maxAttempts: 7 # revision 1:2:11") {
		t.Errorf("in force is\n%s", got)
	}
	if r := c.runWith("billing: {maxAttempts: 3}\n", "policy", "apply", "-"); r.code != exitOK || !strings.Contains(r.stderr, "revision 2 is in force on 1 instance") {
		t.Errorf("applying gave %+v", r)
	}
	if r := c.run("policy", "rollback", "1"); r.code != exitOK || !strings.Contains(r.stderr, "revision 3 is in force on 1 instance") {
		t.Errorf("rolling back gave %+v", r)
	}
	if got := c.ok("policy", "show", "--source"); got != "# patient billing\nbilling: {maxAttempts: 7}\n" {
		t.Errorf("after the rollback the file is %q", got)
	}
	if got := c.ok("policy", "show", "--revision", "2", "--source"); got != "billing: {maxAttempts: 3}\n" {
		t.Errorf("revision 2 is %q", got)
	}
	history := jsonLines[schemas.PolicyRevision](t, c.ok("policy", "history", "--output", "json"))
	if len(history) != 3 || history[0].Revision != 3 || history[0].Comment != "patient billing" || history[1].Comment != "" {
		t.Errorf("the history is %+v", history)
	}
	if got := c.ok("policy", "history"); !strings.Contains(got, "REVISION") || !strings.Contains(got, "patient billing") {
		t.Errorf("the history is\n%s", got)
	}
	c.fails(exitFailure, "there is no such revision", "policy", "rollback", "99")
	c.fails(exitUsage, `"x" is no revision`, "policy", "rollback", "x")
}

func TestPolicyApply_SaysWhatItTakesAwayAndRefusesToTakeAll(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.service()
	empty := policyFile(t, "# nothing yet\n")
	if r := c.run("policy", "apply", policyFile(t, "billing: {maxAttempts: 7}\nshipping: {operations: {send: {priority: high}}}\n")); r.code != exitOK || strings.Contains(r.stderr, "takes away") {
		t.Fatalf("applying over the built-in policies, which stay, gave %+v", r)
	}
	if r := c.run("policy", "apply", policyFile(t, "shipping: {maxAttempts: 7}\n")); r.code != exitOK || !strings.Contains(r.stderr, "this takes away the policies of billing\n") {
		t.Errorf("applying a file without billing gave %+v", r)
	}
	c.fails(exitUsage, empty+" has no policies; applying it would take away those of shipping; say --yes if that is meant", "policy", "apply", empty)
	if r := c.runWith("", "policy", "apply", "-"); r.code != exitUsage || !strings.Contains(r.stderr, "stdin has no policies") {
		t.Errorf("applying nothing from the standard input gave %+v", r)
	}
	if got := c.ok("policy", "show", "--source"); got != "shipping: {maxAttempts: 7}\n" {
		t.Errorf("in force is %q, want what was before", got)
	}
	if r := c.run("policy", "apply", "--yes", empty); r.code != exitOK || !strings.Contains(r.stderr, "this takes away the policies of shipping\n") {
		t.Errorf("applying an empty file with --yes gave %+v", r)
	}
	if got := c.ok("policy", "show", "--source"); got != "# nothing yet\n" {
		t.Errorf("in force is %q, want the empty file", got)
	}
	if r := c.run("policy", "apply", empty); r.code != exitOK || strings.Contains(r.stderr, "take") {
		t.Errorf("applying an empty file over an empty one gave %+v, want no question", r)
	}
}

func TestPolicyApply_AsksBeforeItTakesAll(t *testing.T) {
	for answer, want := range map[string]error{"y\n": nil, "YES\n": nil, "yes": nil, "n\n": errNotApplied, "\n": errNotApplied, "": errNotApplied, "yesterday\n": errNotApplied} {
		var asked strings.Builder
		o := policyApplyOptions{App: &command.App{Stdin: strings.NewReader(answer), Stderr: &asked}}
		if err := o.ask("Apply it? "); !errors.Is(err, want) || asked.String() != "Apply it? " {
			t.Errorf("the answer %q gives %v after %q, want %v", answer, err, asked.String(), want)
		}
	}
}

func TestPolicyCheck_ReportsEveryIssue(t *testing.T) {
	c := &cli{t: t, env: []string{"HOME=" + t.TempDir()}}
	good, bad := policyFile(t, "billing: {maxAttempts: 7}\n"), policyFile(t, "billing:\n  maxAttemps: 7\n  baseDelay: 5 minutes\n")
	if r := c.run("policy", "check", good); r.code != exitOK || !strings.Contains(r.stderr, "has no faults") {
		t.Errorf("a good file gave %+v", r)
	}
	idle := policyFile(t, "billing: {enableResourceAwareRetry: true, enableAdaptiveBackoff: false}\n")
	if r := c.run("policy", "check", idle); r.code != exitOK || !strings.Contains(r.stderr, "billing.enableResourceAwareRetry: has no effect") || !strings.Contains(r.stderr, "has no faults") {
		t.Errorf("a file with a key that has no effect gave %+v, want that said", r)
	}
	r := c.run("policy", "check", bad)
	for _, want := range []string{bad + ":2:3: billing.maxAttemps: no such key; did you mean maxAttempts?\n", bad + ":3:14: billing.baseDelay: "} {
		if !strings.Contains(r.stderr, want) {
			t.Errorf("the issues are\n%swant %s", r.stderr, want)
		}
	}
	checkFailure(t, r, exitFailure, "the policy file has 2 faults")
	c.fails(exitFailure, "the policy file has 2 faults", "policy", "apply", bad)
	c.fails(exitFailure, "reading the policy file", "policy", "check", bad+".not")
}

func TestPolicyExplain_TellsValuesOriginsAndDelays(t *testing.T) {
	c := &cli{t: t, env: []string{"HOME=" + t.TempDir()}}
	file := policyFile(t, "billing:\n  maxAttempts: 4\n  baseDelay: 1s\n  maxDelay: 10s\n  jitterType: none\n  retryBudgetPerMinute: 20\n  accounts:\n    gold: {maxAttempts: 3}\n")
	explain := []string{"policy", "explain", "--file", file, "--service", "billing", "--operation", "charge", "--account", "gold"}
	got := c.ok(append(explain, "--priority", "high", "--override", "maxdelay=1500ms")...)
	for _, want := range []string{"maxAttempts", "billing.accounts.gold, " + file + ":8:", "maxDelay", "low leaves half of it", "1.5s", "overrides", "default, built-in", "AFTER ATTEMPT"} {
		if !strings.Contains(got, want) {
			t.Errorf("the explanation has no %q:\n%s", want, got)
		}
	}
	var e struct {
		Delays []struct{ Attempt, MinMs, MaxMs float64 }
	}
	if err := json.Unmarshal([]byte(c.ok(append(explain, "--output", "json", "--attempt", "2")...)), &e); err != nil {
		t.Fatal(err)
	}
	if len(e.Delays) != 1 || e.Delays[0].Attempt != 2 || e.Delays[0].MinMs != 2000 || e.Delays[0].MaxMs != 2000 {
		t.Errorf("the delay after attempt 2 is %+v, want 2 s", e.Delays)
	}
	c.fails(exitUsage, "the policy allows 3 attempts", append(explain, "--attempt", "3")...)
	c.fails(exitUsage, "service", "policy", "explain", "--operation", "charge")
	c.fails(exitUsage, "maxattempts", append(explain, "--override", "maxattempts=0")...)
}
