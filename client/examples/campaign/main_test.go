package main

import (
	"bytes"
	"testing"

	"github.com/rebound-mq/rebound/client/examples/internal/rig"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestCampaign_FailedActionsAreRetried(t *testing.T) {
	nc := rig.Start(t, "campaign_orchestrator: {baseDelay: 10ms, maxDelay: 100ms}")
	var out bytes.Buffer
	if err := run(t.Context(), nc.ConnectedUrl(), &out); err != nil {
		t.Fatal(err)
	}
	// Actions that meet a busy service need a third attempt.
	const want = `product_launch_2026: 6 done, 0 given up, 14 attempts
newsletter_may: given up for suspended_1: the account is suspended
newsletter_may: 2 done, 1 given up, 7 attempts
`
	if got := out.String(); got != want {
		t.Errorf("it printed\n%swant\n%s", got, want)
	}
	priorities := map[string]string{"product_launch_2026": "critical", "newsletter_may": "low"}
	for _, o := range rig.Outcomes(t, rig.Client(t, nc), 9) {
		if o.Priority != priorities[o.Campaign] {
			t.Errorf("an action of %s has priority %q, want %q", o.Campaign, o.Priority, priorities[o.Campaign])
		}
		if o.Name() == events.RetryFailed && (o.Reason != events.ReasonNotRetryable || o.Account != "suspended_1") {
			t.Errorf("the action for %s ended for the reason %s, want only that of suspended_1 to fail, as not retryable", o.Account, o.Reason)
		}
	}
}
