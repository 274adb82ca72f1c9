package main

import (
	"bytes"
	"testing"

	"github.com/rebound-mq/rebound/client"
	"github.com/rebound-mq/rebound/client/examples/internal/rig"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestModeration_RejectedPostIsNotRetriedButReplayed(t *testing.T) {
	nc := rig.Start(t, "content_safety: {baseDelay: 10ms, maxDelay: 50ms}")
	var out bytes.Buffer
	if err := run(t.Context(), nc.ConnectedUrl(), &out); err != nil {
		t.Fatal(err)
	}
	const want = `the weather: retrySuccess after 2 attempts
the pills: retryFailed after 1 attempt
rejected: buy pills
replayed: 1
the pills: retrySuccess in replay 1
`
	if got := out.String(); got != want {
		t.Errorf("it printed\n%swant\n%s", got, want)
	}

	c := rig.Client(t, nc)
	for _, o := range rig.Outcomes(t, c, 3) {
		if o.Name() == events.RetryFailed && (o.Reason != events.ReasonNotRetryable || o.Error.Code != codeRejected) {
			t.Errorf("the rejected post ended for the reason %s with code %s, want %s with %s", o.Reason, o.Error.Code, events.ReasonNotRetryable, codeRejected)
		}
	}
	testkit.Eventually(t, rig.Patience, "the dead letter goes once it is replayed", func() bool {
		left := 0
		for _, err := range c.DeadLetters().List(rig.Context(t), client.DeadLetterFilter{Service: service}) {
			if err != nil {
				t.Fatal(err)
			}
			left++
		}
		return left == 0
	})
}
