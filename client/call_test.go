package client_test

import (
	"context"
	"strings"
	"testing"

	"github.com/rebound-mq/rebound/client"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

func TestCall_KeyThatMayNotBeOverriddenIsAnsweredWithThoseThatMay(t *testing.T) {
	c, err := client.New(t.Context(), client.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	call := &client.Call{Service: "billing", Operation: "charge", Overrides: map[string]string{"retryBudgetPerMinute": "5"}}
	_, err = client.Execute(t.Context(), c, call, func(context.Context) (int, error) { return 1, nil })
	if err == nil || !strings.Contains(err.Error(), `"retryBudgetPerMinute" cannot be overridden by an operation`) {
		t.Fatalf("the error is %v, want one that refuses retryBudgetPerMinute", err)
	}
	for _, key := range policy.OverridableKeys() {
		if !strings.Contains(err.Error(), key) {
			t.Errorf("the error is %v, want it to name %s", err, key)
		}
	}
}
