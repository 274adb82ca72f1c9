package scheduler

import (
	"testing"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

func TestPipeline_AsksForTheAccountAndTheCampaign(t *testing.T) {
	set := parsed(t, `billing: {accounts: {a: {priority: high}}, campaigns: {c: {maxAttempts: 9}}}`)
	pipeline := &Pipeline{Policies: func() *policy.Set { return set }}
	op := &events.Operation{Service: "billing", Operation: "charge", Account: "a", Campaign: "c", Overrides: map[string]string{"maxattempts": "7"}}
	p, err := pipeline.resolve(op)
	if err != nil {
		t.Fatal(err)
	}
	if p.MaxAttempts != 7 || op.Priority != events.High {
		t.Errorf("the operation has %d attempts and priority %s, want 7 of the campaign's 9 and the account's high", p.MaxAttempts, op.Priority)
	}
	op.Priority, op.PriorityGiven = events.Low, true
	if _, err := pipeline.resolve(op); err != nil || op.Priority != events.Low {
		t.Errorf("an operation of low priority got %s, %v, want its own", op.Priority, err)
	}
	op.Overrides = map[string]string{"maxattempts": "none"}
	if _, err := pipeline.resolve(op); len(policy.Issues(err)) != 1 {
		t.Errorf("a bad override gave %v, want one issue", err)
	}
}
