package main

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/rebound-mq/rebound/client/examples/internal/rig"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestSessions_ExpiredOneIsRenewedOnce(t *testing.T) {
	nc := rig.Start(t, "session_manager: {baseDelay: 10ms, maxDelay: 50ms}")
	var out bytes.Buffer
	if err := run(t.Context(), nc.ConnectedUrl(), &out); err != nil {
		t.Fatal(err)
	}
	const want = `alice: session created by attempt 2
alice: "good morning" posted by attempt 1
alice: "good evening" posted by attempt 2
mallory: "good night" not posted, by rule "expired session" after 2 attempts
`
	if got := out.String(); got != want {
		t.Errorf("it printed\n%swant\n%s", got, want)
	}

	var ended string
	for _, o := range rig.Outcomes(t, rig.Client(t, nc), 3) {
		ended += fmt.Sprintf("%s %s %s after %d %s\n", o.Account, o.Operation, o.Name(), o.Attempts, o.Reason)
	}
	const wantOutcomes = `alice create_session retrySuccess after 2 
alice execute_action retrySuccess after 2 
mallory execute_action retryFailed after 2 not_retryable
`
	if ended != wantOutcomes {
		t.Errorf("the outcomes are\n%swant\n%s", ended, wantOutcomes)
	}
}
